"""The build host's console: progress with the elapsed time, errors with their remedy, running commands."""

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
BUILD = (ROOT / "build").resolve()  # build may be a link to a folder on a larger disk
LOGS = BUILD / "logs"
CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]  # differs between checkouts on one host

_started = time.monotonic()


class FactoryError(Exception):
    """Something the user can act on: one line that names the cause, one that names the cure."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(f"{cause}\n  {cure}")


def say(text: str) -> None:
    """Report progress on stderr, so that stdout stays free for results; nothing happens if it is closed."""
    with suppress(OSError):
        print(f"[{time.monotonic() - _started:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, log: Path | None = None) -> str:
    """Run a command to its end and return its stdout; with `log`, everything it prints goes there instead.

    Raises FactoryError with the last lines of what it printed if it fails.
    """
    words = [str(word) for word in command]
    if log is None:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        printed = done.stderr or done.stdout
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as sink:
            done = subprocess.run(words, stdout=sink, stderr=subprocess.STDOUT, text=True, check=False)
        printed = log.read_text(errors="replace")
    if done.returncode:
        where = f"The whole log is {log}" if log else f"The command was: {' '.join(words)}"
        raise FactoryError(f"{words[0]} failed with exit code {done.returncode}:\n{tail(printed)}", where)
    return done.stdout or ""


def carry_out(command: Callable[[], None]) -> None:
    """Run a command of the command line; exit with a status and a message if it fails.

    A FactoryError is printed without a traceback. An interruption still takes down machines and mounts.
    """
    # SIGINT, because a shell's background jobs ignore it by default; SIGHUP arrives when the terminal closes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        command()
    except FactoryError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; stopping machines and unmounting", file=sys.stderr)
        sys.exit(130)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, so that every clean-up on the stack runs."""
    raise KeyboardInterrupt


def tail(text: str, lines: int = 15) -> str:
    """The last lines of a log, indented, for an error message."""
    return "\n".join(f"  | {line}" for line in text.rstrip().splitlines()[-lines:])


def first_line(words: Sequence[str]) -> str:
    """First line of a command's stdout, for version probes."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]
