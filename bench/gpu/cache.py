"""The page cache, without torch: one step wants to see it imported."""

import os
from contextlib import suppress
from pathlib import Path

from bench.gpu.place import Place
from bench.harness import drop_caches


def drop(place: Place, path: Path) -> str:
    """Take a file out of the page cache, and all others where that can be; says by which means.

    Where nothing is measured, others' files stay where they are.
    """
    if place.gpu:
        with suppress(OSError):
            drop_caches()
            return "drop_caches"
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return "fadvise"
