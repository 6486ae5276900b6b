"""What the simulation assumes, each figure with where it comes from."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("inputs.toml")
INPUTS = ("input", "value", "what it is", "source")

Range = tuple[float, float]  # seconds, both ends included


@dataclass(frozen=True)
class Inputs:
    """The values of a file like inputs.toml, which says what each is."""

    event: Range
    wake: Range
    alarm_delay: float
    group: Range
    running: Range
    boot: Range
    load: Range
    speed: float
    fixed: Range
    fetch: float
    bytes: float
    length: float
    spread: float
    uploads: float
    noticed: float
    replace: Range
    retry: float
    most: int
    price: float
    spot: float


def read(path: Path) -> tuple[Inputs, list[list[str]]]:
    """The inputs in a file, and its rows for a table. Raises ValueError if one is missing or unknown."""
    given: dict[str, dict[str, Any]] = tomllib.loads(path.read_text())
    names = [field.name for field in fields(Inputs)]
    if wrong := set(names) ^ given.keys():
        raise ValueError(f"{path}: missing or unknown: {', '.join(sorted(wrong))}")
    values: dict[str, Any] = {name: entry["value"] for name, entry in given.items()}
    ranges: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    inputs = Inputs(**(values | ranges))
    rows = [
        [name, f"{shown(entry['value'])} {entry['unit']}".strip(), entry["meaning"], entry["source"]]
        for name, entry in given.items()
    ]
    return inputs, rows


def shown(value: Any) -> str:
    """A value of the file as text; a range with a dash."""
    return "-".join(f"{each:g}" for each in value) if isinstance(value, list) else f"{value:g}"
