"""Decides which recordings have to be transcribed, and writes their transcripts."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from preheat import stdio
from preheat.formats import written
from preheat.options import Options, UsageError
from preheat.places.naming import Recording
from preheat.places.results import Guard, Made, TakenError, Target
from preheat.places.sources import File
from preheat.storage import InputError
from preheat.subtitles import Lines
from preheat.timing import Log
from preheat.transcript import Transcript
from preheat.weights.loading import find
from preheat.weights.statefile import read_header

IF_EXISTS = ("replace", "skip", "fail")
AT_ONCE = 16  # recordings that are looked up at a time, where that takes requests to S3


@dataclass(frozen=True)
class Task:
    """A recording to transcribe, and where its transcript goes; to standard output if `places` is empty."""

    recording: Recording
    mark: str  # changes when the recording's content does; see Source.glance
    places: list[tuple[Target, Guard]]

    @property
    def name(self) -> str:
        """The recording's name, for messages."""
        return self.recording.source.name


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a transcript apart from the recording."""

    options: Options
    lines: Lines
    sequential: bool
    home: Path
    model: str | None  # its name; None: the only one

    def digest(self, mark: str) -> str:
        """A digest of the recipe and a recording's mark. Raises ModelError."""
        return hashlib.sha256(json.dumps([mark, self._facts], sort_keys=True).encode()).hexdigest()

    @cached_property
    def _facts(self) -> list[object]:
        return [asdict(self.options), asdict(self.lines), self.sequential, *self._model()]

    def _model(self) -> tuple[str, str]:
        """The model's name and the digest in its state file; "" if there is no state file."""
        name = find(self.home, self.model)
        try:
            with (self.home / "state" / f"{name}.safetensors").open("rb") as file:
                return name, read_header(file).metadata["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return name, ""


class Delivery:
    """The targets of one run."""

    def __init__(self, targets: list[Target], formats: list[str], lines: Lines, if_exists: str) -> None:
        """`if_exists`: one of IF_EXISTS, what to do if results exist already."""
        self._targets, self._formats, self._lines, self._if_exists = targets, formats, lines, if_exists
        self._headed = False

    def prepare(self, count: int) -> None:
        """Raise UsageError if the results of `count` recordings cannot be written as asked."""
        self._headed = count > 1
        if not self._targets:
            if 1 in stdio.closed:
                raise UsageError("standard output is closed; give a folder with -o DIR")
            if len(self._formats) > 1:
                raise UsageError(
                    "several formats need several files; give a folder with -o DIR, such as -o ."
                )
            if self._formats != ["txt"] and self._headed:
                raise UsageError(
                    f"several recordings need several {self._formats[0]} files; give a folder with -o DIR"
                )
        for target in self._targets:
            target.prepare()

    def tasks(
        self, recordings: list[Recording], recipe: Recipe
    ) -> Iterator[tuple[Recording, Task | InputError | None]]:
        """What to do for each recording: a task, None if it is done, or the error that prevents it."""

        def looked_at(recording: Recording) -> Task | InputError | None:
            try:
                return self._task(recording, recipe)
            except InputError as error:
                return error

        far = any(not isinstance(each.source, File) for each in recordings) or self._if_exists != "replace"
        if not far:  # local lookups are fast: threads would only cost time
            yield from ((recording, looked_at(recording)) for recording in recordings)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from zip(recordings, pool.map(looked_at, recordings), strict=True)

    def _task(self, recording: Recording, recipe: Recipe) -> Task | None:
        source, stem = recording.source, recording.stem
        mark = source.glance()
        for target in self._targets:
            target.check(stem, target.formats(self._formats), source.path)
        if self._if_exists == "replace" or not self._targets:
            return Task(recording, mark, [(target, Guard()) for target in self._targets])
        places = []
        for target in self._targets:
            formats = target.formats(self._formats)
            there = target.find(stem, formats)
            if there and self._if_exists == "fail":
                raise InputError(
                    f"its results already exist in {target}; choose another -o, or --if_exists replace"
                )
            wanted = Made(recipe.digest(mark), tuple(formats))
            if not (there and (there.made is None or there.made.serves(wanted))):
                places.append((target, Guard(replace=False, there=there)))
        return Task(recording, mark, places) if places else None

    def deliver(self, transcript: Transcript, task: Task, recipe: Recipe, log: Log) -> None:
        """Write a transcript to all of its places. Raises InputError if one fails, and BrokenPipeError."""
        if not task.places:
            self._print(transcript, task)
            return
        needed = dict.fromkeys(name for target, _ in task.places for name in target.formats(self._formats))
        texts = written(transcript, list(needed), self._lines)
        problems = []
        for target, guard in task.places:  # all are tried, even if one fails
            formats = target.formats(self._formats)
            made = Made(recipe.digest(task.mark), tuple(formats), transcript.complete)
            try:
                target.put(task.recording.stem, {name: texts[name] for name in formats}, made, guard)
            except TakenError as error:
                if self._if_exists == "fail":
                    problems.append(f"{error}; left unchanged")
                else:
                    log.info(f"{task.name}: {error}; left unchanged")
            except InputError as error:
                problems.append(f"{target}: {error}" if str(target) not in str(error) else str(error))
        if problems:
            raise InputError("; ".join(problems))

    def _print(self, transcript: Transcript, task: Task) -> None:
        for text in written(transcript, self._formats, self._lines).values():
            content = text.encode()
            if self._headed:  # as head and tail do
                content = b"==> %s <==\n" % os.fsencode(task.name) + content
            try:
                # Not through Python's buffer, which after an error would retry, and fail again, at exit.
                while content:
                    content = content[os.write(sys.stdout.fileno(), content) :]
            except BrokenPipeError:
                raise
            except OSError as error:
                raise InputError(
                    f"cannot write to standard output: {error.strerror}; check space and permissions"
                ) from error
