"""Notes of what runs of `make ami` may have on EC2: one file for each run, there until all of it is removed.

Nothing else on this host remembers a builder that a killed run has left, and a builder costs by the hour.
So a note is written whole or not at all, says whose account it is about, and is never deleted unread.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from factory.console import FactoryError


@dataclass(frozen=True)
class Run:
    """One build or proof: its name, which all that it makes bears, where, and the AMI's while unfinished."""

    id: str
    account: str
    region: str
    unfinished_ami: str


def write(folder: Path, run: Run) -> Path:
    """Write a run down, so that after a crash there is the old note or the new one; the note's path."""
    note = folder / f"{run.id}.json"
    part = note.with_suffix(".part")
    with part.open("w") as file:
        json.dump(asdict(run), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(note)
    return note


def read(note: Path) -> Run:
    """The run of a note; FactoryError where the file is not one."""
    try:
        values = json.loads(note.read_text())
        if not isinstance(values, dict) or kinds(values) != {field.name: str for field in fields(Run)}:
            raise ValueError("it has other fields than a note")
    except ValueError as error:
        raise FactoryError(
            f"{note} should say what a run of make ami may have left on EC2, and does not: {error}",
            "Look for builders in every region: make ami-clean. Then delete this file",
        ) from error
    return Run(**values)


def kinds(values: dict[str, object]) -> dict[str, type]:
    """Of which type each value is."""
    return {name: type(value) for name, value in values.items()}


def all_in(folder: Path) -> list[Path]:
    """The notes in a folder, of runs under any account."""
    return sorted(folder.glob("*.json"))
