"""Where results go: folders, and prefixes in S3. In each, a recording's results appear whole or not at all.

What they were made of is noted beside them, so that a later run can tell whether they would come out the
same: in a folder in its journal, in S3 in the metadata of the JSON, which is written last and so is the
commit mark.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from preheat.options import UsageError
from preheat.places import s3
from preheat.places.journal import Journal
from preheat.places.s3errors import TAKEN, S3Error
from preheat.storage import InputError, check_folder, check_result, replacing

MARK = "json"  # the format that says in S3 that all are there


@dataclass(frozen=True)
class Made:
    """Of what results were made."""

    digest: str  # of the recording, the model and the options
    formats: tuple[str, ...]
    complete: bool = True  # False where a part of the recording could not be read

    def serves(self, wanted: "Made") -> bool:
        """Whether nothing would be gained by making them again."""
        return self.complete and self.digest == wanted.digest and set(wanted.formats) <= set(self.formats)


def made(noted: dict[str, Any]) -> Made:
    """What was noted. Raises KeyError and TypeError."""
    return Made(noted["digest"], tuple(noted["formats"]), noted["complete"])


@dataclass(frozen=True)
class There:
    """Results that are there, as far as is known of what; `tag`: S3's, of the JSON."""

    made: Made | None
    tag: str = ""


@dataclass(frozen=True)
class Guard:
    """What may be replaced: anything, or nothing but what was `there` when it was looked for."""

    replace: bool = True
    there: There | None = None


class TakenError(InputError):
    """Results are there by now that were not there before."""


class Target(Protocol):
    """A place for results. `stem`: of a recording's, a relative path without what is behind the dot.

    `formats` and `texts` are of what `formats` says.
    """

    def formats(self, asked: list[str]) -> list[str]:
        """The formats that are written there."""

    def prepare(self) -> None:
        """Raise UsageError if nothing can be written there."""

    def check(self, stem: str, formats: list[str], recording: Path | None) -> None:
        """Raise InputError if a recording's results cannot be there."""

    def find(self, stem: str, formats: list[str]) -> There | None:
        """What is there of a recording; None if not all formats are. Raises InputError."""

    def put(self, stem: str, texts: dict[str, str], of: Made, guard: Guard) -> None:
        """Write them. Raises TakenError if there is what the guard forbids to replace, and InputError."""


class Folder:
    """A folder of this machine's."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._journal = folder, Journal(folder / ".transcribe.jsonl")

    def __str__(self) -> str:
        return str(self._folder)

    def formats(self, asked: list[str]) -> list[str]:
        """Those that are asked for."""
        return asked

    def prepare(self) -> None:
        """Make it. Raises UsageError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"no folder {self._folder}: {error.strerror}; name another with -o") from error
        try:
            check_folder(self._folder)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._folder}: {error.strerror}; name another with -o"
            ) from error

    def check(self, stem: str, formats: list[str], recording: Path | None) -> None:
        """As of any target."""
        for name in formats:
            check_result(self._path(stem, name), recording)

    def find(self, stem: str, formats: list[str]) -> There | None:
        """As of any target."""
        if not all(self._path(stem, name).exists() for name in formats):
            return None
        noted = self._journal.find(stem)
        return There(made(noted) if noted else None)

    def put(self, stem: str, texts: dict[str, str], of: Made, guard: Guard) -> None:
        """As of any target."""
        if not guard.replace and guard.there is None and self.find(stem, list(texts)):
            raise TakenError(f"its results are in {self._folder} meanwhile")
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
        """With the mark, which is always there, and comes last."""
        return [*(name for name in asked if name != MARK), MARK]

    def prepare(self) -> None:
        """As of any target."""
        s3.reach(self._where)

    def check(self, stem: str, formats: list[str], recording: Path | None) -> None:
        """As of any target."""
        del recording  # is on this machine, and cannot be overwritten
        for name in formats:
            if problem := s3.unfit(self._at(stem, name).key):
                raise InputError(problem)

    def find(self, stem: str, formats: list[str]) -> There | None:
        """As of any target; where the JSON is, all are."""
        del formats  # its metadata say which there are
        found = s3.head(self._at(stem, MARK))
        if found is None:
            return None
        try:
            noted = made(json.loads(found.metadata["transcribe"]))
        except (KeyError, TypeError, ValueError):  # somebody else's
            noted = None
        return There(noted, found.etag)

    def put(self, stem: str, texts: dict[str, str], of: Made, guard: Guard) -> None:
        """As of any target; the JSON is the last, and without it nothing counts as there."""

        def write(name: str) -> None:
            s3.put(self._at(stem, name), texts[name].encode(), name)

        if others := [name for name in texts if name != MARK]:
            with ThreadPoolExecutor(len(others)) as pool:
                list(pool.map(write, others))
        only: dict[str, str] = {}
        if not guard.replace:
            only = {"IfMatch": guard.there.tag} if guard.there else {"IfNoneMatch": "*"}
        where = self._at(stem, MARK)
        try:
            noted = {"transcribe": json.dumps(asdict(of))}
            s3.put(where, texts[MARK].encode(), MARK, Metadata=noted, **only)
        except S3Error as error:
            if only and error.code in TAKEN:
                raise TakenError(f"somebody else has written {where} meanwhile") from error
            raise

    def _at(self, stem: str, name: str) -> s3.Location:
        return self._where.beneath(f"{stem}.{name}")


def target(text: str) -> Target:
    """What -o names. Raises UsageError."""
    return Bucket(s3.location(text)) if text.startswith(s3.SCHEME) else Folder(Path(text))
