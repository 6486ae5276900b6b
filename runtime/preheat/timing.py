"""Messages on stderr and timing of phases; the clock starts with the process."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

PROGRESS_EVERY = 5.0  # seconds
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}  # as in files' names

program = "transcribe"  # what warnings begin with: set once, by another program
as_json = False  # whether messages are printed as JSON: set once, by the command line


def now() -> float:
    """Seconds since the kernel started this process (to 10 ms)."""
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started(), 0.0)


@cache  # reading it needs memory, which may have run out by the time an error is reported
def started() -> float:
    """When this process started, in seconds since boot."""
    # proc(5): field 22 is the start in clock ticks since boot; field 2, the name, may hold spaces.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")


def warn(text: str, **facts: object) -> None:
    """Report a problem in one line on stderr, even with --quiet. `facts`: see `tell`."""
    tell("warning", text, f"{program}: {text.translate(CONTROLS)}", facts)


def tell(level: str, text: str, line: str, facts: dict[str, object]) -> None:
    """Print `line` on stderr or, if `as_json`, a JSON object with the text and the facts."""
    if as_json:
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": when, "level": level, "message": text} | facts)
    print(line, file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """Why something failed: the first line of the error's message, or its class."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


class Log:
    """Messages to the user on stderr, and the phases that --timings shows."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.display: Callable[[float], None] | None = None  # shows the done part, 0 to 1, of a recording
        self.phases: list[dict[str, str | float]] = []
        self.reported = now()
        self.note("start python", 0.0)

    @property
    def on_terminal(self) -> bool:
        """Whether messages go to a terminal, in text."""
        return sys.stderr.isatty() and not self.quiet and not as_json

    def info(self, text: str, **facts: object) -> None:
        """Print a message with the time, unless --quiet. `facts`: see `tell`."""
        if not self.quiet:
            tell("info", text, f"[{now():8.3f} s] {text.translate(CONTROLS)}", facts)

    def progress(self, part: float) -> None:
        """Report the done part, 0 to 1, of a recording; printed every PROGRESS_EVERY seconds at most."""
        if self.display:
            self.display(part)
        elif (at := now()) - self.reported >= PROGRESS_EVERY:
            self.reported = at
            self.info(f"{part:.0%} done")

    def note(self, name: str, start: float) -> float:
        """Record a phase from `start` to now; returns its length in seconds."""
        end = now()
        self.phases.append({"name": name, "start_s": round(start, 3), "end_s": round(end, 3)})
        return end - start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the block as a phase, even if it fails."""
        start = now()
        try:
            yield
        finally:
            self.note(name, start)

    def seconds(self, name: str) -> float:
        """The total length of all phases with this name."""
        return sum(
            float(phase["end_s"]) - float(phase["start_s"]) for phase in self.phases if phase["name"] == name
        )

    def report(self, style: str, facts: dict[str, str | float]) -> None:
        """Print facts and phases: as a table (`text`) or as one line of JSON (`json`)."""
        if style == "json":
            print(json.dumps(facts | {"phases": self.phases}), file=sys.stderr, flush=True)
            return
        for phase in self.phases:
            start, end = float(phase["start_s"]), float(phase["end_s"])
            print(f"{start:8.3f} → {end:8.3f} {end - start:8.3f} s  {phase['name']}", file=sys.stderr)
        print("\n".join(f"{name:>10} {value}" for name, value in facts.items()), file=sys.stderr, flush=True)
