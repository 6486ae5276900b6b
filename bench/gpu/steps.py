"""The steps, and how one is done: in a process of its own, with a time limit, whatever happens to it.

A step is a module with a function `run(place)` that yields rows, each as soon as it is known:

    {"table": "cross", "backend": "flash", "steady, ms": 0.41, …}    a line of that table; names are its head
    {"told": "cross attention of 160 rows: …"}                       what the one table at the end says
    {"problem": "the tokens differ"}                                 the step has failed, and goes on

A row may have several of these. The rows go through a file, so that those of a step that hangs are not lost.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.gpu.place import Place, Row
from bench.harness import ROOT

TAIL = 2000  # characters of a failed step's output that are kept


@dataclass(frozen=True)
class Step:
    """One check."""

    name: str
    limit: float  # seconds
    module: str = ""  # bench.gpu.NAME, if it is not said

    @property
    def source(self) -> str:
        """The module that does it."""
        return self.module or f"bench.gpu.{self.name}"


STEPS = [  # what tells most comes first, what empties the page cache last; the limits are one run's 8 minutes
    Step("versions", 20),
    Step("attention", 50),
    Step("models", 40),
    Step("encoder", 50),
    Step("step", 70),
    Step("fresh", 35),
    Step("hour", 55),
    Step("varlen", 20),
    Step("faults", 25),
    Step("own", 55),
    Step("storage", 40),
    Step("reads", 20),
]


@dataclass
class Outcome:
    """What became of a step."""

    name: str
    result: str  # "ok", or what is wrong
    seconds: float
    rows: list[Row] = field(default_factory=list)
    output: str = ""  # the end of it, of a step that failed

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.result == "ok"


def perform(step: Step, place: Place, limit: float) -> Outcome:
    """Do one step."""
    place.scratch.mkdir(parents=True, exist_ok=True)
    rows, log = place.scratch / f"{step.name}.rows", place.scratch / f"{step.name}.log"
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu.one", step.source, place.device]
    command += [str(place.scratch), str(rows)]
    environment = dict(os.environ)
    if not place.gpu:  # on a model this small torch's threads only wait for each other
        environment["OMP_NUM_THREADS"] = "1"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # and of those that it started
            end(process)
    said = [json.loads(line) for line in read(rows)]
    found = Outcome(step.name, judge(code, limit, said, read(log)), time.monotonic() - started, said)
    if not found.good:
        found.output = "\n".join(read(log))[-TAIL:]
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read(path: Path) -> list[str]:
    """The whole lines of a file; none if there is none. A killed process may leave half a line at the end."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(errors="replace").rpartition("\n")
    return whole.splitlines()


def judge(code: int | None, limit: float, rows: list[Row], output: list[str]) -> str:
    """The result of a step."""
    problems = [row["problem"] for row in rows if "problem" in row]
    if code is None:
        return f"stopped after {limit:.0f} s, its limit"
    if code:
        last = next((line for line in reversed(output) if line.strip()), "it said nothing")
        return f"failed ({code}): {last.strip()}"
    if problems:
        return "; ".join(problems)
    return "ok" if rows else "failed: it found nothing"


def run(steps: list[Step], place: Place, total: float, keep: Path, about: Row) -> list[Outcome]:
    """All steps in turn, in `total` seconds at most; what is known so far is always in the file `keep`."""
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for step in steps:
        left = total - (time.monotonic() - started)
        if left > 1:
            print(f"bench: {step.name} …", file=sys.stderr, flush=True)
            outcomes.append(perform(step, place, min(step.limit, left)))
        else:
            outcomes.append(Outcome(step.name, f"not begun: the {total:.0f} s were over", 0.0))
        keep.parent.mkdir(parents=True, exist_ok=True)
        document = about | {"device": place.device, "steps": [asdict(outcome) for outcome in outcomes]}
        keep.write_text(json.dumps(document, indent=1) + "\n")
    return outcomes
