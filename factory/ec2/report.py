"""What was made, where, and how long each step took: the table at the end of `make ami`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from factory.console import say
from factory.ec2.table import table


@dataclass
class Line:
    """One step: its name, the region, the result and the seconds it took."""

    step: str
    region: str
    result: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """The steps so far."""

    lines: list[Line] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, region: str) -> Iterator[Line]:
        """Time a step. The block sets the result, which is `failed` if it raises."""
        line = Line(name, region, "failed")
        self.lines.append(line)
        started = time.monotonic()
        try:
            yield line
        finally:
            line.seconds = time.monotonic() - started
        say(f"{name}, {region}: {line.result}")

    def table(self) -> str:
        """The steps as columns."""
        rows = [(line.step, line.region, line.result, f"{line.seconds:.1f} s") for line in self.lines]
        return table(("step", "region", "result", "time"), rows)
