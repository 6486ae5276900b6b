"""A report of a run, from its JSON: as text, or as the section "On a GPU" of bench/RESULTS.md.

.venv/bin/python -m bench.gpu.report [FILE]
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.gpu.place import Row
from bench.harness import RESULTS, describe, table

NOT_COLUMNS = ("table", "finding", "problem", "list")  # keys of a row that are not columns of its table
WHOLE = 100  # numbers from here on are shown without decimals


def plain(file: Path) -> str:
    """All tables, then the summary of all steps."""
    found = json.loads(file.read_text())
    parts = [text for step in found["steps"] for text in tables(step)]
    return "\n\n".join([*parts, describe(found["machine"]), summary(found["steps"])])


def markdown(file: Path) -> str:
    """The section in Markdown, with the summary of all steps first."""
    found = json.loads(file.read_text())
    blocks = [describe(found["machine"]) + "\n" + summary(found["steps"])]
    blocks += [text for step in found["steps"] for text in tables(step)]
    head = f"## On a GPU\n\n`bench/gpu.sh`, on {found['machine']['date']}, device {found['device']}:"
    return "\n\n".join([head, *(f"```\n{block}\n```" for block in blocks)])


def summary(steps: list[Row]) -> str:
    """One line for each step and each of its findings (`finding`)."""
    lines = []
    for step in steps:
        findings = [row["finding"] for row in step["rows"] if "finding" in row]
        result = step["result"] if step["result"] == "ok" else "NOT OK"
        why = [] if step["result"] == "ok" else [step["result"]]
        first, *others = [*why, *findings] or [""]
        lines.append([step["name"], result, f"{step['seconds']:.1f} s", first])
        lines += [["", "", "", other] for other in others]
    return aligned(["step", "result", "took", "what was found"], lines)


def tables(step: Row) -> Iterator[str]:
    """The tables of one step."""
    names = dict.fromkeys(row["table"] for row in step["rows"] if "table" in row)
    for name in names:
        every = [row for row in step["rows"] if row.get("table") == name]
        rows = [row for row in every if "left out" not in row]
        missing = "".join(f"\nleft out: {row['left out']}" for row in every if "left out" in row)
        head = list(dict.fromkeys(key for row in rows for key in row if key not in NOT_COLUMNS))
        lines = [[shown(row.get(key, "")) for key in head] for row in rows]
        yield f"{step['name']}: {name}\n{table(head, lines, left=words(rows, head))}{missing}"


def words(rows: Iterable[Row], head: list[str]) -> int:
    """How many columns come before the first numeric one."""
    numbers = [any(isinstance(row.get(key), int | float) for row in rows) for key in head]
    return numbers.index(True) if True in numbers else len(head)


def shown(value: Any) -> str:
    """A value as text; numbers with about three significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0 or abs(value) >= WHOLE:
            return f"{value:,.0f}"
        return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def aligned(head: list[str], lines: list[list[str]]) -> str:
    """A table whose last column may be long."""
    return table(head, lines, left=len(head))


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "gpu.json"))
