"""One recording, from the event that names it to its committed transcript, in small steps.

The order of the steps makes the result right whatever happens between them: another worker that has got the
same message, a recording that is replaced, a worker that is killed. Results count once the JSON is there, and
before its message is deleted each job has seen, after its last write, that the recording is still the one it
has transcribed and that all formats are still those of its JSON (`settled`).

A worker that has lost its message, which another one has deleted after doing a newer recording, writes
nothing: each format is replaced only if it is still what `look` has found, and `look` finds that first, and
only then asks which recording is there. So what a newer recording's job writes comes after, and makes the
older one's requests fail, and if an older one's comes first, the newer job's fails, and is begun anew.

One case is left. S3 compares contents, not times. If a recording is replaced, and then replaced again so that
a format becomes what it was before, a worker that has lost its message in between can still write it. It sees
that in `settled`, and does the job anew; only if it dies before that, the format stays wrong. The same goes
for a format that only the older recording's metadata ask for, and for an error file, which names the ETag of
the recording it is about.
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
from preheat.places.results import MARK, Bucket, Guard, Made, TakenError
from preheat.places.s3errors import MISSING, REPLACED, TAKEN, S3Error
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
        there = [name for name in FORMATS if self.guard.etags.get(name)]
        return self.results.formats([name for name in FORMATS if name in (*self.choices.formats, *there)])

    def look(self) -> bool:
        """Look at the recording, and at its results: whether those that are wanted are there already.

        Raises GoneError; UsageError for wrong metadata; InputError for what cannot be a recording; S3Error.
        """
        self.results.check(self.stem, list(FORMATS), None)
        self.guard = self._guard()
        self.source = self._head()  # not before: the results found are older than that
        self.choices = chosen(of_metadata(self.source.metadata), self._rules.choices)
        self._rules.check(self.choices.options)
        if self.source.size == 0:
            raise InputError("is empty (0 bytes); copy or record it again")
        self._digest = replace(self._rules.recipe, options=self.choices.options).digest(self.source.etag)
        return self._whole()

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
        now, seen = self._head(), self.source
        return seen is None or (now.etag, now.metadata) == (seen.etag, seen.metadata)

    def settled(self) -> bool:
        """Whether the results there now are those of the recording there now. Raises GoneError, S3Error."""
        if not self.current():
            return False
        self.guard = self._guard()
        return self._whole()

    def put_error(self, problem: str, facts: dict[str, str]) -> None:
        """Write why there is no transcript, beside where it would be. Raises S3Error."""
        etag = self.source.etag.strip('"') if self.source else self.upload.etag
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        said = {"recording": str(self.upload.where), "etag": etag, "problem": problem, "time": when} | facts
        if s3.unfit(self._error.key) is None:
            s3.put(self._error, json.dumps(said, ensure_ascii=False).encode() + b"\n", "json")

    def remove_error(self) -> None:
        """Remove what `put_error` may have written before. Raises GoneError, ChangedError, S3Error."""
        found = s3.head(self._error)
        if found is None:
            return
        if not self.current():
            raise ChangedError
        try:
            s3.remove(self._error, found.etag)
        except S3Error as error:
            if error.code in (*TAKEN, *MISSING):
                raise ChangedError from error
            raise

    @property
    def _error(self) -> s3.Location:
        return self._rules.output.beneath(f"{self.stem}.error.json")

    def _head(self) -> s3.Object:
        if found := s3.head(self.upload.where):
            return found
        raise GoneError

    def _guard(self) -> Guard:
        """Protects the results that are there now; in all formats, as a dead worker may have left any."""
        there = self.results.find(self.stem, list(FORMATS))
        etags = self.results.etags(self.stem, [name for name in FORMATS if name != MARK])
        return Guard(replace=False, there=there, etags=etags)

    def _whole(self) -> bool:
        made = self.guard.there.made if self.guard.there else None
        if made is None or made.digest != self._digest:
            return False
        return set(self.formats) <= set(made.formats) and self.guard.whole
