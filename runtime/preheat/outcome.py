"""What became of one recording, and the exit code for it."""

from dataclasses import dataclass

DONE, INCOMPLETE, SKIPPED, LEFT = "done", "incomplete", "skipped", "not done"
FAILED, FAULTY = "failed", "faulty"
CODES = {DONE: 0, SKIPPED: 0, LEFT: 0, INCOMPLETE: 1, FAILED: 1, FAULTY: 4}  # exit codes


@dataclass(frozen=True)
class Outcome:
    """What became of a recording."""

    name: str
    outcome: str  # one of CODES
    seconds: float = 0.0  # of sound
    spent: float = 0.0  # s
    words: int = 0
    language: str | None = None
    problem: str | None = None  # a line for the user
