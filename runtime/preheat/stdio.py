"""The standard streams: all three there, fit for any text; and an end of the process that waits for nothing.

This is for what runs as a program: who imports its modules has streams of his own.
"""

import codecs
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

FAILED, PIPE_CLOSED = 1, 141  # exit codes; the second one is what shells say of whom SIGPIPE has ended
PLAIN = {"→": "->", "…": "..."}  # of what we print ourselves, where a terminal knows ASCII only

closed: set[int] = set()  # descriptors that whoever started this process had closed


def run(name: str, main: Callable[[list[str]], int]) -> NoReturn:
    """Run a program, and end the process with the exit code that `main` returns.

    Python would take down all modules first, which takes its time, and what still lives in a thread would be
    reported as leaked. There is nothing left to save.
    """
    prepare()
    try:
        code = main(sys.argv[1:])
    except SystemExit as leaving:  # argparse's way
        code = int(leaving.code or 0)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # as in `transcribe --help | head -1`
        code = PIPE_CLOSED
    except OSError as error:
        print(f"{name}: cannot write to standard output: {error.strerror}; check the space", file=sys.stderr)
        code = code or FAILED
    sys.stderr.flush()
    os._exit(code)


def prepare() -> None:
    """Open what is closed, and make the streams print what they cannot encode in another way.

    Without it, the next file opened would get a standard stream's number, and what C libraries print would go
    into it. Python prints to stdout what is meant for a stderr that is not there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one
            os.set_inheritable(descriptor, True)
    codecs.register_error("readable", readable)
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    sys.stdout = os.fdopen(1, "w", encoding=encoding, errors="readable", closefd=False)
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = Lossy(os.fdopen(2, "wb", closefd=False), encoding, "readable", line_buffering=True)


class Lossy(io.TextIOWrapper):
    """A stream for which what cannot be written is lost: no disk full of logs should end the work."""

    def write(self, text: str) -> int:
        """The characters taken, lost or not."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is left, if it can be."""
        with suppress(OSError):
            super().flush()


def readable(error: UnicodeError) -> tuple[str, int]:
    """For a character that a stream's encoding lacks: another way to write it, and where to go on.

    Bytes of a file's name that are no text stand in Python's strings as U+DC80 to U+DCFF.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}", error.start + 1
    escaped = character.encode("ascii", "backslashreplace").decode()
    return PLAIN.get(character, escaped), error.start + 1
