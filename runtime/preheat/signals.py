"""Ctrl-C and SIGTERM: the first one ends the work cleanly, the second one at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM has come; `code`: the exit code for it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


class Interruptions:
    """Handles the signals during a block: raises Interrupted in the main thread, at once unless held."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._holding = False
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "Interruptions":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup and in background jobs, keep it
                self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Defer signals until `release`, so that the current work is finished."""
        self._holding = True

    def release(self) -> None:
        """Stop deferring signals. Raises Interrupted if one has come meanwhile."""
        self._holding = False
        if self._came:
            raise Interrupted(self._came)

    def _come(self, number: int, _: FrameType | None) -> None:
        if self._came:
            os._exit(128 + number)
        self._came = number
        if not self._holding:
            raise Interrupted(number)
