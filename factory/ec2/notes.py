"""Notes of the resources that runs of `make ami` may have on EC2: a file per run, kept until all are removed.

Nothing else on this host records a builder that a killed run has left, and a builder costs money by the hour.
So a note is written atomically, names the account, and is never deleted unread.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from factory.console import FactoryError


@dataclass(frozen=True)
class Run:
    """One build or proof: the id on all its resources, where they are, the name of an unfinished AMI."""

    id: str
    account: str
    region: str
    unfinished_ami: str


def write(folder: Path, run: Run) -> Path:
    """Write a run's note atomically: after a crash it is the old one or the new one. Returns its path."""
    note = folder / f"{run.id}.json"
    part = note.with_suffix(".part")
    with part.open("w") as file:
        json.dump(asdict(run), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(note)
    return note


def read(note: Path) -> Run:
    """The run in a note; FactoryError if the file is not a note."""
    try:
        values = json.loads(note.read_text())
        if not isinstance(values, dict) or kinds(values) != {field.name: str for field in fields(Run)}:
            raise ValueError("it has unexpected fields")
    except ValueError as error:
        raise FactoryError(
            f"{note}, the record of what a run of make ami may have left on EC2, cannot be read: {error}",
            "Look for builders in every region: make ami-clean. Then delete this file",
        ) from error
    return Run(**values)


def kinds(values: dict[str, object]) -> dict[str, type]:
    """The type of each value."""
    return {name: type(value) for name, value in values.items()}


def all_in(folder: Path) -> list[Path]:
    """The notes in a folder, of runs in any account."""
    return sorted(folder.glob("*.json"))
