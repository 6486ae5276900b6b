"""One recording, from the event that names it to its committed transcript, in small steps.

The order of the steps makes the result right whatever happens between them: another worker that has got the
same message, a recording that is replaced, a worker that is killed. Results count once the JSON is there, and
before its message is deleted each job has seen, after its last write, that the recording is still the one it
has transcribed and that all formats are still those of its JSON (`settled`). So whoever writes last has
looked after that, or its message comes again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO

from preheat.delivery import Recipe
from preheat.fleet.choices import Choices, chosen, of_metadata
from preheat.fleet.events import Upload
from preheat.formats import FORMATS, written
from preheat.options import Options
from preheat.places import s3
from preheat.places.results import Bucket, Guard, Made, TakenError, There
from preheat.places.s3errors import MISSING, REPLACED, S3Error
from preheat.places.sources import temporary
from preheat.storage import InputError
from preheat.transcript import Transcript


class GoneError(Exception):
    """The recording has been deleted."""


class ChangedError(Exception):
    """The recording or its results have been replaced meanwhile: the job begins anew."""


@dataclass(frozen=True)
class Rules:
    """What holds for all jobs of a worker."""

    output: s3.Location  # where results go
    choices: Choices  # for recordings whose metadata say nothing else
    recipe: Recipe  # its options are those of each recording
    check: Callable[[Options], None]  # raises UsageError for options that the model cannot follow


class Job:
    """The transcription of one recording."""

    def __init__(self, upload: Upload, rules: Rules) -> None:
        self.upload, self.choices = upload, rules.choices
        self.source: s3.Object | None = None  # as `look` has seen it
        self._rules, self._digest = rules, ""
        self.results, self.guard = Bucket(rules.output), Guard()

    @property
    def stem(self) -> str:
        """The name of the results, without suffix: the whole key, as a.wav is not a.mp3."""
        return self.upload.where.key

    @property
    def formats(self) -> list[str]:
        """Those of the results: with those that are there already, which would keep an older content."""
        there = self.guard.there.made.formats if self.guard.there and self.guard.there.made else ()
        return self.results.formats([name for name in FORMATS if name in (*self.choices.formats, *there)])

    def look(self) -> bool:
        """Look at the recording, and at its results: whether those that are wanted are there already.

        Raises GoneError; UsageError for wrong metadata; InputError for what cannot be a recording; S3Error.
        """
        self.source = self._head()
        self.choices = chosen(of_metadata(self.source.metadata), self._rules.choices)
        self._rules.check(self.choices.options)
        if self.source.size == 0:
            raise InputError("is empty (0 bytes); copy or record it again")
        self._digest = replace(self._rules.recipe, options=self.choices.options).digest(self.source.etag)
        for name in self.formats:
            self.results.check(self.stem, [name], None)
        there = self.results.find(self.stem, self.formats)
        self.guard = Guard(replace=False, there=there)
        return self._whole(there)

    def fetch(self) -> BinaryIO:
        """The recording that `look` has seen, in an unnamed temporary file.

        Raises GoneError, ChangedError, S3Error and OSError.
        """
        try:
            return temporary(lambda file: s3.fetch(self.upload.where, file, self.source))
        except S3Error as error:
            if error.code in MISSING:
                raise GoneError from error
            if error.code in REPLACED:
                raise ChangedError from error
            raise

    def texts(self, transcript: Transcript) -> dict[str, str]:
        """The transcript in each of the formats."""
        return written(transcript, self.formats, self._rules.recipe.lines)

    def made(self, complete: bool) -> Made:
        """What the results are made from; `complete`: whether all of the recording could be read."""
        return Made(self._digest, tuple(self.formats), complete)

    def deliver(self, texts: dict[str, str], complete: bool) -> None:
        """Write and commit all formats. Raises ChangedError, S3Error."""
        try:
            self.results.put(self.stem, texts, self.made(complete), self.guard)
        except TakenError as error:
            raise ChangedError from error

    def current(self) -> bool:
        """Whether the recording is still the one that `look` has seen. Raises GoneError, S3Error."""
        now = self._head()
        return self.source is not None and (now.etag, now.metadata) == (
            self.source.etag,
            self.source.metadata,
        )

    def settled(self) -> bool:
        """Whether the results there now are those of the recording there now. Raises GoneError, S3Error."""
        return self.current() and self._whole(self.results.find(self.stem, self.formats))

    def put_error(self, problem: str, facts: dict[str, str]) -> None:
        """Write why there is no transcript, beside where it would be. Raises S3Error."""
        etag = self.source.etag.strip('"') if self.source else self.upload.etag
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        said = {"recording": str(self.upload.where), "etag": etag, "problem": problem, "time": when} | facts
        if s3.unfit(self._error.key) is None:
            s3.put(self._error, json.dumps(said, ensure_ascii=False).encode() + b"\n", "json")

    def remove_error(self) -> bool:
        """Remove what `put_error` may have written before; whether there was something. Raises S3Error."""
        return s3.remove(self._error)

    @property
    def _error(self) -> s3.Location:
        return self._rules.output.beneath(f"{self.stem}.error.json")

    def _head(self) -> s3.Object:
        if found := s3.head(self.upload.where):
            return found
        raise GoneError

    def _whole(self, there: There | None) -> bool:
        if there is None or there.made is None or there.made.digest != self._digest:
            return False
        return set(self.formats) <= set(there.made.formats) and self.results.whole(self.stem, there)
