"""How far the work has come, for who watches it on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from preheat.outcome import Outcome
from preheat.timing import Log


@contextmanager
def display(log: Log, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A bar below what is told, for several recordings on a terminal; to be called with each that is done."""
    if total == 1 or not log.on_terminal:
        yield lambda _: None
        return
    from preheat import terminal  # noqa: PLC0415  rich takes its time

    with terminal.bar(log, total) as advance:
        yield advance
