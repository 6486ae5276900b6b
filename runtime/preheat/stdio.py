"""Makes sure that all three standard streams are open and accept any text, and ends the process quickly.

Only for the commands: programs that import the library keep their own streams.
"""

import codecs
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

FAILED, PIPE_CLOSED = 1, 141  # exit codes; the second is the shell's for a process ended by SIGPIPE
PLAIN = {"→": "->", "…": "..."}  # ASCII for the characters that we print ourselves

closed: set[int] = set()  # descriptors that were closed when this process started


def run(name: str, main: Callable[[list[str]], int]) -> NoReturn:
    """Run a program, and end the process with the exit code that `main` returns.

    It skips Python's shutdown, which takes time to tear down modules and would report objects still in use by
    threads as leaked. Nothing is left to be saved.
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
    """Open closed standard streams, and make them escape what they cannot encode.

    Otherwise the next file opened would get a standard stream's descriptor, and the output of C libraries
    would go into it. And Python would print to stdout what is meant for a closed stderr.
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
    """A stream that drops what it cannot write: the work must not fail because logs fill the disk."""

    def write(self, text: str) -> int:
        """Returns the length of the text, written or dropped."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, if possible."""
        with suppress(OSError):
            super().flush()


def readable(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: an escape for a character that the encoding lacks, and where to go on.

    Undecodable bytes of file names are U+DC80 to U+DCFF in Python's strings (surrogateescape).
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}", error.start + 1
    escaped = character.encode("ascii", "backslashreplace").decode()
    return PLAIN.get(character, escaped), error.start + 1
