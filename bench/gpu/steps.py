"""The steps, and how they are run: each in its own process, with a time limit.

A step is a module with a function `run(place)` that yields rows, each as soon as it is known:

    {"table": "cross", "backend": "flash", "steady, ms": 0.41, …}    a row of that table; keys are its columns
    {"finding": "cross attention of 160 rows: …"}                       a finding for the summary at the end
    {"problem": "the tokens differ"}                                 marks the step as failed; it continues

A row may have several of these. The rows are written to a file, so that those of a step that hangs are kept.
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

TAIL = 2000  # characters kept of a failed step's output


@dataclass(frozen=True)
class Step:
    """One check."""

    name: str
    limit: float  # seconds
    module: str = ""  # default: bench.gpu.NAME

    @property
    def source(self) -> str:
        """The module that runs the step."""
        return self.module or f"bench.gpu.{self.name}"


STEPS = [  # the most informative first, those that empty the page cache last; the limits add up to 8 minutes
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
    """The outcome of a step."""

    name: str
    result: str  # "ok", or the problem
    seconds: float
    rows: list[Row] = field(default_factory=list)
    output: str = ""  # the end of a failed step's output

    @property
    def good(self) -> bool:
        """Whether the step succeeded."""
        return self.result == "ok"


def perform(step: Step, place: Place, limit: float) -> Outcome:
    """Run one step in a process, for `limit` seconds at most."""
    place.scratch.mkdir(parents=True, exist_ok=True)
    rows, log = place.scratch / f"{step.name}.rows", place.scratch / f"{step.name}.log"
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu.one", step.source, place.device]
    command += [str(place.scratch), str(rows)]
    environment = dict(os.environ)
    if not place.gpu:  # with a model this small, threads only slow torch down
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
        finally:  # also ends the processes that it started
            end(process)
    said = [json.loads(line) for line in read(rows)]
    found = Outcome(step.name, judge(code, limit, said, read(log)), time.monotonic() - started, said)
    if not found.good:
        found.output = "\n".join(read(log))[-TAIL:]
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all processes that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read(path: Path) -> list[str]:
    """The complete lines of a file, if it exists. A killed process may leave half a line at the end."""
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
    """Run all steps, in `total` seconds at most; results so far are always in the file `keep`."""
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
