"""Reports the outcome of each recording, and of all at the end, and determines the exit code."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from preheat.options import UsageError
from preheat.outcome import CODES, DONE, FAILED, FAULTY, INCOMPLETE, LEFT, SKIPPED, Outcome
from preheat.storage import check_folder, replacing
from preheat.timing import Log, warn

NAMED = 10  # recordings that a message names at most
ROWS = 30  # recordings up to which the table has all of them; above, only those that are not done


class Summary:
    """The outcomes so far."""

    def __init__(self, path: Path | None, log: Log) -> None:
        """`path`: the JSON file to write at the end. Raises UsageError if it cannot be written there."""
        self.outcomes: list[Outcome] = []
        self._path, self._log = path, log
        try:
            if path:
                check_folder(path.absolute().parent)
        except OSError as error:
            raise UsageError(f"--summary {path}: {error.strerror}; name another file") from error

    @property
    def code(self) -> int:
        """The exit code for them."""
        return max((CODES[each.outcome] for each in self.outcomes), default=0)

    @property
    def seconds(self) -> float:
        """Seconds of sound that was transcribed."""
        return sum(each.seconds for each in self.outcomes)

    def add(self, outcome: Outcome) -> None:
        """Record an outcome and report it to the user."""
        self.outcomes.append(outcome)
        facts = asdict(outcome)
        if outcome.outcome in (DONE, INCOMPLETE):
            speed = outcome.seconds / outcome.spent
            line = f"{outcome.seconds:.1f} s of audio in {outcome.spent:.2f} s, {speed:.1f} times real time"
            self._log.info(f"{outcome.name}: {line}", **facts)
        if outcome.outcome == SKIPPED:
            self._log.info(f"{outcome.name}: already done", **facts)
        elif outcome.problem and outcome.outcome != FAULTY:  # which is reported with a traceback
            warn(f"{outcome.name}: {outcome.problem}", **facts)

    def interrupt(self, names: Iterable[str]) -> None:
        """Record and report which of these recordings are left."""
        names = list(names)
        for outcome in self.outcomes:  # remove each once, as names may repeat
            if outcome.name in names:
                names.remove(outcome.name)
        self.outcomes += [Outcome(name, LEFT) for name in names]
        shown = ", ".join(names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        warn(f"interrupted; not done: {shown}{more}" if names else "interrupted", not_done=names)

    def finish(self, code: int) -> int:
        """Write the file, and report totals for several recordings; returns `code`, or if 0 the exit code."""
        code = code or self.code
        if self._path:
            try:
                with replacing(self._path) as file:
                    content = self._totals() | {
                        "exit_code": code,
                        "recordings": [asdict(each) for each in self.outcomes],
                    }
                    file.write(json.dumps(content).encode() + b"\n")
            except OSError as error:
                warn(f"cannot write {self._path}: {error.strerror}; check space and permissions")
                code = code or CODES[FAILED]
        if len(self.outcomes) > 1:
            self._tell()
        return code

    def _totals(self) -> dict[str, int | float]:
        count = Counter(each.outcome for each in self.outcomes)
        spent = sum(each.spent for each in self.outcomes)
        return {outcome.replace(" ", "_"): count[outcome] for outcome in CODES} | {
            "seconds": round(self.seconds, 3),
            "spent": round(spent, 3),
            "speed": round(self.seconds / spent, 2) if spent else 0.0,
            "words": sum(each.words for each in self.outcomes),
        }

    def _tell(self) -> None:
        count = Counter(each.outcome for each in self.outcomes)
        parts = ", ".join(f"{count[outcome]} {outcome}" for outcome in CODES if count[outcome])
        totals = self._totals()
        line = f"{len(self.outcomes)} recordings: {parts}; {totals['seconds']:.1f} s of audio in "
        line += f"{totals['spent']:.1f} s, {totals['speed']:.1f} times real time"
        if self._log.on_terminal:
            from preheat import terminal  # noqa: PLC0415  rich takes its time

            shown = [each for each in self.outcomes if each.outcome != DONE or len(self.outcomes) <= ROWS]
            terminal.table(shown)
        self._log.info(line, **totals)
