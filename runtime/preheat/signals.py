"""Ctrl-C and SIGTERM: the first one ends the work in order, the second one at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The user, or whoever ends this machine, wants an end; `code`: the exit code for it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


class Interruptions:
    """The signals during a block, in the main thread: Interrupted is raised wherever it is, unless held."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._holding = False
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "Interruptions":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and a shell's background jobs want it
                self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """From here on, what is being done is done to its end."""
        self._holding = True

    def release(self) -> None:
        """To here. Raises Interrupted if a signal has come meanwhile."""
        self._holding = False
        if self._came:
            raise Interrupted(self._came)

    def _come(self, number: int, _: FrameType | None) -> None:
        if self._came:
            os._exit(128 + number)
        self._came = number
        if not self._holding:
            raise Interrupted(number)
