"""A day of the fleet as events in time.

The decisions are the product's own code: deploy/wake.py for how many instances to want, preheat.fleet.policy
for how much a worker takes and when its instance ends itself. AWS is a model, whose times are in inputs.toml.
"""

from dataclasses import dataclass

from bench.fleet.aws import Group, Queue
from bench.fleet.clock import Clock
from bench.fleet.inputs import Inputs
from bench.fleet.instance import Instance
from bench.fleet.scenario import DAY, Recording, Scenario, uploads
from bench.fleet.wake import Wake

MINUTE = 60.0  # seconds between reconciles, and between an alarm's samples
LIMIT = 7 * DAY  # even if recordings are left
SAMPLES = 2  # above zero, then an alarm acts


@dataclass(frozen=True)
class Outcome:
    """What came of a day."""

    recordings: list[Recording]
    dead: list[Recording]  # in the dead-letter queue
    billed: float  # seconds of all instances
    launches: int
    interruptions: int


class Simulation:
    """One day."""

    def __init__(self, inputs: Inputs, scenario: Scenario, seed: int) -> None:
        self.inputs, self.scenario = inputs, scenario
        self.clock = Clock(f"fleet {seed}")
        self.recordings = uploads(inputs, scenario, seed)
        self.queue, self.breaches = Queue(), 0
        self.group = Group(self.clock, inputs, scenario, self.instance)
        self.wake = Wake(self.queue, self.group)

    def instance(self, zone: int) -> Instance:
        """Launch an instance."""
        return Instance(self.clock, self.inputs, self.queue, self.group, zone)

    def run(self) -> Outcome:
        """Let the day pass, and more of it while recordings are left."""
        by_alarm = self.scenario.wake == "alarm"
        for recording in self.recordings:
            self.clock.at(recording.uploaded, self.upload, recording)
        self.clock.after(self.clock.draw((0, MINUTE)), self.sample if by_alarm else self.reconcile)
        self.group.fill()
        with self.wake.installed():
            while self.clock.now < DAY or (self.left and self.clock.now < LIMIT):
                self.clock.next()
        instances = [*self.group.ended, *self.group.instances]
        return Outcome(
            recordings=self.recordings,
            dead=self.queue.dead,
            billed=sum(instance.billed(self.clock.now) for instance in instances),
            launches=len(instances),
            interruptions=sum(instance.interrupted for instance in instances),
        )

    @property
    def left(self) -> int:
        """Recordings that are neither transcribed nor given up."""
        return len(self.recordings) - self.queue.deleted - len(self.queue.dead)

    def upload(self, recording: Recording) -> None:
        """An upload's event goes to the queue and to the wake Lambda, and arrives at either first."""
        self.clock.after(self.clock.draw(self.inputs.event), self.queue.put, recording)
        if self.scenario.wake != "alarm":
            delay = self.clock.draw(self.inputs.event) + self.clock.draw(self.inputs.wake)
            self.clock.after(delay, self.wake.uploaded)

    def reconcile(self) -> None:
        """Run the wake Lambda by its schedule."""
        self.wake.reconcile()
        self.clock.after(MINUTE, self.reconcile)

    def sample(self) -> None:
        """An alarm on the queue: it acts after some samples above zero, and at each that follows."""
        self.breaches = self.breaches + 1 if self.queue.visible else 0
        if self.breaches >= SAMPLES:
            self.clock.after(self.inputs.alarm_delay, self.wake.reconcile)
        self.clock.after(MINUTE, self.sample)
