"""A filter that says which drivers can be built for a kernel."""

import re
from collections.abc import Callable


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 6.1.192-2 is (6, 1, 192)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def needed_drivers(driver: str, kernel: str, table: list[dict[str, list[str]]]) -> list[str]:
    """Empty if the driver can be built for the kernel, else the oldest version of each branch that can.

    A row of the table has under `kernels` the first kernel of each series that needs one of its `drivers`.
    """
    for row in table:
        starts = {numbers(start)[:2]: numbers(start) for start in row["kernels"]}
        start = starts.get(numbers(kernel)[:2])
        if start is None or numbers(kernel) < start:
            continue
        minimum = {numbers(oldest)[0]: numbers(oldest) for oldest in row["drivers"]}
        branch = numbers(driver)[0]
        if branch <= max(minimum) and (branch not in minimum or numbers(driver) < minimum[branch]):
            return row["drivers"]
    return []


class FilterModule:
    """The class in which Ansible looks for filters."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """The filter, by its name."""
        return {"needed_drivers": needed_drivers}
