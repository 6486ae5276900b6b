"""The simulated time, and chance: the same for the same seed."""

import heapq
import itertools
from collections.abc import Callable
from random import Random

from bench.fleet.inputs import Range


class Clock:
    """Does one action after the other, each at its time in seconds."""

    def __init__(self, seed: str) -> None:
        self.now = 0.0
        self.random = Random(seed)  # noqa: S311  a simulation, which must repeat itself
        self._order = itertools.count()
        self._actions: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []

    def at(self, time: float, action: Callable[..., object], *arguments: object) -> None:
        """Do something at a time; what is for the same time is done in the order of these calls."""
        heapq.heappush(self._actions, (time, next(self._order), action, arguments))

    def after(self, seconds: float, action: Callable[..., object], *arguments: object) -> None:
        """Do something later."""
        self.at(self.now + seconds, action, *arguments)

    def next(self) -> None:
        """Go on to the next action and do it."""
        self.now, _, action, arguments = heapq.heappop(self._actions)
        action(*arguments)

    def draw(self, seconds: Range) -> float:
        """A time within a range."""
        return self.random.uniform(*seconds)
