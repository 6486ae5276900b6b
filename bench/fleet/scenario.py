"""What is simulated: the uploads of a day, how the fleet wakes, and what goes wrong."""

from dataclasses import dataclass, field
from math import inf, log
from random import Random

from bench.fleet.inputs import Inputs

DAY = 86_400.0  # seconds
BURST = 3_600.0  # when it is uploaded
LONGEST = 3_600.0  # seconds of a recording


@dataclass(frozen=True)
class Scenario:
    """The choices of a simulated day."""

    name: str
    burst: int = 0  # recordings uploaded together
    steady: int = 0  # recordings over the day, at random times
    wake: str = "event"  # or alarm; or warm: by event, and one instance is always there
    interrupted: float = 0.0  # spot interruptions of an instance in an hour
    zones: tuple[float, ...] = (inf,)  # instances that each zone has capacity for …
    scarce: float = 0.0  # … for so many seconds from the burst on


@dataclass(eq=False)
class Recording:
    """An upload and what becomes of it."""

    seconds: float
    uploaded: float
    received: int = 0
    transcripts: list[float] = field(default_factory=list)  # when one was written
    phases: dict[str, float] = field(
        default_factory=dict
    )  # of the last: seconds since the upload when each ended


def uploads(inputs: Inputs, scenario: Scenario, seed: int) -> list[Recording]:
    """The day's recordings: the same for a seed and a number of them, however the fleet wakes."""
    random = Random(f"uploads {seed}")  # noqa: S311  a simulation, which must repeat itself
    times = [BURST + random.uniform(0, inputs.uploads) for _ in range(scenario.burst)]
    times += [random.uniform(0, DAY) for _ in range(scenario.steady)]
    return [
        Recording(min(LONGEST, random.lognormvariate(log(inputs.length), inputs.spread)), time)
        for time in sorted(times)
    ]
