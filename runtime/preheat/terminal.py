"""What is shown on a terminal only: a progress bar, and a table of outcomes.

Both use rich, which is imported only for a terminal.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from preheat.outcome import Outcome
from preheat.timing import CONTROLS, Log


@contextmanager
def bar(log: Log, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A progress bar for `total` recordings; call the result with each Outcome."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("recordings, this one {task.fields[part]:.0%}, {task.fields[speed]:.1f} times real time,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    seconds = spent = 0.0
    with Progress(
        *columns, console=Console(file=sys.stderr), redirect_stdout=False, transient=True
    ) as progress:
        task = progress.add_task("", total=total, part=0.0, speed=0.0)

        def advance(outcome: Outcome) -> None:
            nonlocal seconds, spent
            seconds, spent = seconds + outcome.seconds, spent + outcome.spent
            progress.update(task, advance=1, part=0.0, speed=seconds / spent if spent else 0.0)

        log.display = lambda part: progress.update(task, part=part)
        try:
            yield advance
        finally:
            log.display = None


def table(outcomes: list[Outcome]) -> None:
    """A row for each recording."""
    rows = Table("recording", "outcome", "seconds", "words", "language", "speed")
    for each in outcomes:
        speed = f"{each.seconds / each.spent:.1f}" if each.spent else ""
        seconds, words = (f"{each.seconds:.1f}", str(each.words)) if each.spent else ("", "")
        name = escape(each.name.translate(CONTROLS))
        rows.add_row(name, each.outcome, seconds, words, each.language or "", speed)
    Console(file=sys.stderr).print(rows)
