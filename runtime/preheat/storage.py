"""Checks input files before costly work, and writes outputs atomically."""

import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

RUNTIME = Path(__file__).resolve().parents[1]  # the folder that holds this package, and VERSION
NO_SUCH_FLAG = (errno.EISDIR, errno.EOPNOTSUPP)  # errors of file systems without O_TMPFILE


class InputError(Exception):
    """An input that cannot be transcribed: one line with the cause and the cure, without the file's name."""


class PassingError(InputError):
    """One that is not the input's fault: the next try may succeed."""


def version() -> str:
    """The version of this program."""
    return (RUNTIME / "VERSION").read_text().strip()


def check(path: Path) -> None:
    """Raise InputError for what the file system alone can show, before anything costly is loaded."""
    try:
        if path.is_dir():
            raise InputError("is a folder; name the recordings in it, for instance with *.wav")
        if not path.exists():
            raise InputError("no such file; check the name and the folder")
        if not path.is_file():
            raise InputError("is not a regular file; save the recording to a file first")
        if path.stat().st_size == 0:
            raise InputError("is empty (0 bytes); copy or record it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}; check its permissions") from error


def check_folder(folder: Path) -> None:
    """Raise OSError if a folder is not writable, as far as its file system can say."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))  # a file that never has a name
    except OSError as error:
        if error.errno not in NO_SUCH_FLAG:
            raise


def check_result(path: Path, recording: Path | None) -> None:
    """Raise InputError if it is clear beforehand that a recording's result cannot be written to `path`.

    `recording`: its own path, None if it is not a local file.
    """
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            raise InputError(
                f"its result cannot be written to {path}, which is a folder; choose another with -o"
            )
        if recording and path.samefile(recording):
            raise InputError("its result would overwrite it; choose another folder with -o")
    except FileNotFoundError:
        return
    except OSError as error:  # usually the name is too long
        raise InputError(
            f"its result cannot be written to {path}: {error.strerror}; rename the recording"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` atomically: readers see all of the old or of the new content.

    It is written beside `path`, synced to the disk and renamed over it; on any error it is removed and
    `path` stays as it was. Raises OSError (disk full, no permission).
    """
    temporary = path.with_name(f"{prefix(path)}{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with suppress(OSError):  # not every file system has locks; see remove_leftovers
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename is durable only after the folder is synced, too.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def prefix(path: Path) -> str:
    """The prefix of the names of temporary files for `path`: short even if its own name is long."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}."


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while replacing `path`.

    A live writer holds a lock on its file. The process id in the name proves nothing: ids are reused after a
    reboot.
    """
    name = re.compile(rf"{re.escape(prefix(path))}\d+\.tmp")
    with suppress(OSError):  # leftovers are no reason to fail
        for leftover in [found for found in path.parent.iterdir() if name.fullmatch(found.name)]:
            with suppress(OSError), leftover.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
