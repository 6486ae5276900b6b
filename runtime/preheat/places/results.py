"""Where results go: folders, and prefixes in S3. In each, a recording's results appear whole or not at all.

A digest of what they were made from is kept with them, so that a later run knows whether it would get the
same results: for a folder in its journal, for S3 in the metadata of the JSON. That is written last, as the
commit mark.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from preheat.options import UsageError
from preheat.places import s3
from preheat.places.journal import Journal
from preheat.places.s3errors import MISSING, TAKEN, S3Error
from preheat.storage import InputError, check_folder, check_result, replacing

MARK = "json"  # the format whose presence in S3 means that all formats are there


@dataclass(frozen=True)
class Made:
    """What results were made from."""

    digest: str  # of the recording, the model and the options
    formats: tuple[str, ...]
    complete: bool = True  # False where a part of the recording could not be read

    def serves(self, wanted: "Made") -> bool:
        """Whether these results make it unnecessary to make the wanted ones."""
        return self.complete and self.digest == wanted.digest and set(wanted.formats) <= set(self.formats)


def made(noted: dict[str, Any]) -> Made:
    """A Made from its JSON. Raises KeyError and TypeError."""
    return Made(noted["digest"], tuple(noted["formats"]), noted["complete"])


@dataclass(frozen=True)
class There:
    """Existing results; `made`: None if unknown.

    In S3, `tag` is the ETag of the JSON, and `tags` are those that the other formats had when it was written.
    """

    made: Made | None
    tag: str = ""
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Guard:
    """What may be replaced: anything, or only what was `there` at the time of the check.

    `etags`: those that the other formats in S3 must still have, "" where there must be none. A format that
    is not among them may be replaced.
    """

    replace: bool = True
    there: There | None = None
    etags: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the other formats are still those that were written with the JSON."""
        noted = self.there.tags if self.there else None
        return noted is not None and all(self.etags.get(name) == tag for name, tag in noted.items())

    def condition(self, name: str) -> dict[str, str]:
        """The parameter of PutObject that keeps a format from being replaced against the guard."""
        etag = (self.there.tag if self.there else "") if name == MARK else self.etags.get(name)
        if self.replace or etag is None:
            return {}
        return {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}


class TakenError(InputError):
    """Somebody else has written the results since the check."""


class Target(Protocol):
    """A place for results. `stem`: the relative path of a recording's results, without suffix.

    The `formats` and `texts` passed in are those that the method `formats` returns.
    """

    def formats(self, asked: list[str]) -> list[str]:
        """The formats to write, of those asked for and any that the target needs."""

    def prepare(self) -> None:
        """Raise UsageError if nothing can be written there."""

    def check(self, stem: str, formats: list[str], recording: Path | None) -> None:
        """Raise InputError if a recording's results cannot be there."""

    def find(self, stem: str, formats: list[str]) -> There | None:
        """The existing results of a recording; None unless all formats are there. Raises InputError."""

    def put(self, stem: str, texts: dict[str, str], of: Made, guard: Guard) -> None:
        """Write results. Raises TakenError if the guard forbids to replace existing ones, and InputError."""


class Folder:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._journal = folder, Journal(folder / ".transcribe.jsonl")

    def __str__(self) -> str:
        return str(self._folder)

    def formats(self, asked: list[str]) -> list[str]:
        """Those that are asked for."""
        return asked

    def prepare(self) -> None:
        """Create the folder, and check that it is writable. Raises UsageError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"no folder {self._folder}: {error.strerror}; choose another with -o") from error
        try:
            check_folder(self._folder)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._folder}: {error.strerror}; choose another with -o"
            ) from error

    def check(self, stem: str, formats: list[str], recording: Path | None) -> None:
        """See Target."""
        for name in formats:
            check_result(self._path(stem, name), recording)

    def find(self, stem: str, formats: list[str]) -> There | None:
        """See Target."""
        if not all(self._path(stem, name).exists() for name in formats):
            return None
        noted = self._journal.find(stem)
        return There(made(noted) if noted else None)

    def put(self, stem: str, texts: dict[str, str], of: Made, guard: Guard) -> None:
        """See Target."""
        if not guard.replace and guard.there is None and self.find(stem, list(texts)):
            raise TakenError(f"its results have since been written to {self._folder}")
        try:
            self._path(stem, "").parent.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                with replacing(self._path(stem, name)) as file:
                    file.write(text.encode())
            self._journal.add({"stem": stem} | asdict(of))
        except OSError as error:
            raise InputError(
                f"cannot write to {self._folder}: {error.strerror}; check space and permissions"
            ) from error

    def _path(self, stem: str, name: str) -> Path:
        return self._folder / f"{stem}.{name}"


class Bucket:
    """A prefix in S3."""

    def __init__(self, where: s3.Location) -> None:
        self._where = where

    def __str__(self) -> str:
        return str(self._where)

    def formats(self, asked: list[str]) -> list[str]:
        """Those asked for, and the mark, which is always written, and last."""
        return [*(name for name in asked if name != MARK), MARK]

    def prepare(self) -> None:
        """See Target."""
        s3.reach(self._where)

    def check(self, stem: str, formats: list[str], recording: Path | None) -> None:
        """See Target."""
        del recording  # is on this machine, and cannot be overwritten
        for name in formats:
            if problem := s3.unfit(self._at(stem, name).key):
                raise InputError(problem)

    def find(self, stem: str, formats: list[str]) -> There | None:
        """See Target; if the JSON exists, all formats do."""
        del formats  # the JSON's metadata list them
        found = s3.head(self._at(stem, MARK))
        if found is None:
            return None
        try:
            facts = json.loads(found.metadata["transcribe"])
            noted, tags = made(facts), facts.get("tags")
        except (KeyError, TypeError, ValueError):  # not written by this program
            noted, tags = None, None
        return There(noted, found.etag, tags)

    def etags(self, stem: str, formats: list[str]) -> dict[str, str]:
        """The ETag of each format, "" where there is none. Raises S3Error."""
        with ThreadPoolExecutor(len(formats) or 1) as pool:
            found = pool.map(lambda name: s3.head(self._at(stem, name)), formats)
            return {name: each.etag if each else "" for name, each in zip(formats, found, strict=True)}

    def put(self, stem: str, texts: dict[str, str], of: Made, guard: Guard) -> None:
        """See Target; the JSON is written last, and without it results do not count as existing."""
        others = [name for name in texts if name != MARK]
        with ThreadPoolExecutor(len(others) or 1) as pool:
            tags = list(pool.map(lambda name: self.write(stem, name, texts[name], guard), others))
        noted = json.dumps(asdict(of) | {"tags": dict(zip(others, tags, strict=True))})
        self.write(stem, MARK, texts[MARK], guard, Metadata={"transcribe": noted})

    def write(self, stem: str, name: str, text: str, guard: Guard, **settings: Any) -> str:
        """Write one format, which counts only once the JSON is there; its ETag. Raises what `put` does."""
        where, only = self._at(stem, name), guard.condition(name)
        try:
            return s3.put(where, text.encode(), name, **only, **settings)
        except S3Error as error:
            if only and error.code in (*TAKEN, *MISSING):  # missing: IfMatch, and it has been deleted
                raise TakenError(f"another process has since written {where}") from error
            raise

    def _at(self, stem: str, name: str) -> s3.Location:
        return self._where.beneath(f"{stem}.{name}")


def target(text: str) -> Target:
    """What -o names. Raises UsageError."""
    return Bucket(s3.location(text)) if text.startswith(s3.SCHEME) else Folder(Path(text))
