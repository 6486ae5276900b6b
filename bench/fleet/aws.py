"""A model of the queue and of the Auto Scaling group."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.fleet.clock import Clock
from bench.fleet.inputs import Inputs
from bench.fleet.scenario import BURST, Recording, Scenario
from factory.ec2.template import template

if TYPE_CHECKING:
    from bench.fleet.instance import Instance

RECEIVES: int = template()["Resources"]["Queue"]["Properties"]["RedrivePolicy"]["maxReceiveCount"]


class Queue:
    """A queue of SQS."""

    def __init__(self) -> None:
        self.in_flight = self.deleted = 0
        self.dead: list[Recording] = []  # the dead-letter queue
        self.polls: deque[Callable[[], None]] = deque()  # long polls: what each does when there is a message
        self._visible: deque[Recording] = deque()

    @property
    def visible(self) -> int:
        """Messages that wait for a worker."""
        return len(self._visible)

    def put(self, recording: Recording) -> None:
        """A message becomes visible, which ends a long poll."""
        self._visible.append(recording)
        if self.polls:
            self.polls.popleft()()

    def receive(self, most: int) -> list[Recording]:
        """Messages, which are in flight from now on."""
        taken = [self._visible.popleft() for _ in range(min(most, len(self._visible)))]
        self.in_flight += len(taken)
        for recording in taken:
            recording.received += 1
        return taken

    def release(self, recording: Recording) -> None:
        """A message in flight becomes visible again, or goes to the dead-letter queue."""
        self.in_flight -= 1
        if recording.received < RECEIVES:
            self.put(recording)
        else:
            self.dead.append(recording)

    def delete(self) -> None:
        """A message in flight is done."""
        self.in_flight -= 1
        self.deleted += 1


class Group:
    """An Auto Scaling group of spot instances over some zones."""

    def __init__(
        self, clock: Clock, inputs: Inputs, scenario: Scenario, instance: "Callable[[int], Instance]"
    ) -> None:
        """`instance` launches one in a zone."""
        self.clock, self.inputs, self.scenario, self.instance = clock, inputs, scenario, instance
        self.least = self.desired = int(scenario.wake == "warm")
        self.most = inputs.most
        self.instances: list[Instance] = []
        self.ended: list[Instance] = []
        self._launching = 0

    def states(self) -> list[str]:
        """The lifecycle state of each instance."""
        return ["Pending" if instance.started is None else "InService" for instance in self.instances]

    def want(self, desired: int) -> None:
        """SetDesiredCapacity."""
        self.desired = max(self.least, desired)
        self.fill()

    def fill(self) -> None:
        """Ask for the instances that are missing."""
        for _ in range(self.desired - len(self.instances) - self._launching):
            self._launching += 1
            self.clock.after(self.clock.draw(self.inputs.group), self._launch)

    def _launch(self) -> None:
        """Launch an instance, in the emptiest zone that has capacity; if none has, try again later."""
        self._launching -= 1
        if len(self.instances) >= self.desired:
            return
        zones = [instance.zone for instance in self.instances]
        free = [zone for zone in range(len(self.scenario.zones)) if zones.count(zone) < self._capacity(zone)]
        if free:
            self.instances.append(self.instance(min(free, key=zones.count)))
        else:
            self._launching += 1
            self.clock.after(self.inputs.retry, self._launch)

    def _capacity(self, zone: int) -> float:
        """How many instances a zone has room for now."""
        scarce = BURST <= self.clock.now < BURST + self.scenario.scarce
        return self.scenario.zones[zone] if scarce else self.most

    def terminate(self, instance: "Instance") -> bool:
        """TerminateInstanceInAutoScalingGroup with decrement; refused if that goes below the least size."""
        if self.desired <= self.least:
            return False
        self.desired -= 1
        self._end(instance)
        return True

    def lose(self, instance: "Instance") -> None:
        """EC2 has taken an instance back: the group replaces it."""
        self._end(instance)
        self.clock.after(self.clock.draw(self.inputs.replace), self.fill)

    def _end(self, instance: "Instance") -> None:
        instance.ended = self.clock.now
        self.instances.remove(instance)
        self.ended.append(instance)
