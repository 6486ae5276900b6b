"""Where recordings come from: files, standard input, S3, the web. Each is opened as a file with a descriptor.

A recording that is not a local file is fetched into an unnamed temporary file, which needs no removal.
Fetching may start some recordings ahead, so that transcription does not wait for the network.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from preheat.places import s3
from preheat.storage import InputError, check
from preheat.threads import start

AHEAD = 4  # recordings that are fetched before their turn


class Source:
    """A recording, wherever it is."""

    def __init__(self, name: str) -> None:
        """`name`: for the command line and messages."""
        self.name = name

    @property
    def path(self) -> Path | None:
        """Its path if it is a local file, else None."""
        return None

    def glance(self) -> str:
        """A string that changes with the content: from metadata, without reading it. Raises InputError."""
        return ""

    def begin(self) -> None:
        """Start to fetch it in the background, if it is not a local file."""

    def open(self) -> BinaryIO:
        """Open it to read and seek, unbuffered. Raises InputError and OSError."""
        raise NotImplementedError


class File(Source):
    """A local file."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    @property
    def path(self) -> Path:
        return self._path

    def glance(self) -> str:
        check(self._path)
        found = self._path.stat()
        return f"{found.st_size} bytes of {found.st_mtime_ns} ns"

    def open(self) -> BinaryIO:
        return self._path.open("rb", buffering=0)


class Fetched(Source):
    """A recording that is fetched into a temporary file; subclasses define `fetch`."""

    _file: Future[BinaryIO] | None = None

    def begin(self) -> None:
        if self._file is None:
            self._file = Future()
            if not start(self._work):  # the system has no thread left
                self._work()

    def open(self) -> BinaryIO:
        self.begin()
        assert self._file  # noqa: S101  for mypy
        return self._file.result()

    def fetch(self, file: BinaryIO) -> None:
        """Write it to a file. Raises InputError and OSError."""
        raise NotImplementedError

    def _work(self) -> None:
        assert self._file  # noqa: S101  as above
        try:
            self._file.set_result(fetched(self.fetch))
        except BaseException as error:  # passed on to the thread that calls `open`
            self._file.set_exception(error)


def fetched(fetch: Callable[[BinaryIO], None]) -> BinaryIO:
    """What `fetch` writes, which must be something. Raises InputError, and what `fetch` does."""
    try:
        file = temporary(fetch)
    except OSError as error:
        where = tempfile.gettempdir()
        raise InputError(
            f"cannot be fetched to {where}: {error.strerror}; free space there, or set TMPDIR"
        ) from error
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise InputError("is empty (0 bytes); copy or record it again")
    return file


def temporary(fetch: Callable[[BinaryIO], None]) -> BinaryIO:
    """Run `fetch` on an unnamed temporary file, and return that. Raises OSError, and what `fetch` does."""
    with tempfile.TemporaryFile() as file:
        fetch(file)
        file.flush()
        # Unbuffered: the descriptor may be passed on alone, so its offset must be the file's position.
        unbuffered = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
    unbuffered.seek(0)
    return unbuffered


class Stdin(Fetched):
    """Standard input: a recording of any kind, to its end."""

    def __init__(self) -> None:
        super().__init__("-")

    def fetch(self, file: BinaryIO) -> None:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)


class Object(Fetched):
    """An object in S3; `etag`: from a listing, None without one."""

    def __init__(self, where: s3.Location, etag: str | None = None) -> None:
        super().__init__(str(where))
        self._where, self._etag = where, etag

    def glance(self) -> str:
        if self._etag is None:
            found = s3.head(self._where)
            if found is None:
                raise InputError("there is no such object; check the key, and end a prefix with a slash")
            self._etag = found.etag
        return self._etag

    def fetch(self, file: BinaryIO) -> None:
        s3.fetch(self._where, file)
