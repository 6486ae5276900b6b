"""Dropping files from the page cache. Does not import torch, whose import one step measures."""

import os
from contextlib import suppress
from pathlib import Path

from bench.gpu.place import Place
from bench.harness import drop_caches


def drop(place: Place, path: Path) -> str:
    """Drop a file from the page cache, and all other files if that is permitted; returns the method used.

    Without a GPU nothing is measured, and other files stay in the cache.
    """
    if place.gpu:
        with suppress(OSError):
            drop_caches()
            return "drop_caches"
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return "fadvise"
