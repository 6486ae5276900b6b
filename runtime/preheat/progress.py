"""Shows progress on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from preheat.outcome import Outcome
from preheat.timing import Log


@contextmanager
def display(log: Log, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A progress bar, for several recordings on a terminal; call the result with each Outcome."""
    if total == 1 or not log.on_terminal:
        yield lambda _: None
        return
    from preheat import terminal  # noqa: PLC0415  rich is slow to import

    with terminal.bar(log, total) as advance:
        yield advance
