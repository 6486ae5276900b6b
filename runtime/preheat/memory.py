"""How much memory is free, and whether an error means that there was too little of it.

Each library reports that in its own words.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

CURE = "check free memory and ulimit -v"
WORDS = (
    "bad alloc",  # C++, through onnxruntime
    "bad_alloc",
    "can't allocate memory",  # torch, on the CPU
    "can't start new thread",  # Python, usually because there is no memory for its stack
    "cannot allocate memory",  # the C library, and programs in Rust
    "failed to map segment",  # the dynamic linker, on import of a library
    "not enough memory",
    "out of memory",  # CUDA
)


def available() -> int:
    """Bytes of main memory that are available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def shortage(error: BaseException) -> str | None:
    """One line on the lack of memory, main or GPU, that caused this error; None if something else did."""
    found = None
    for cause in causes(error):
        lines = [line.strip() for line in str(cause).splitlines() if any(w in line.lower() for w in WORDS)]
        if lines:
            found = lines[0].rstrip(".")
        elif isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            found = str(cause).partition("\n")[0] or "not enough memory"
    return found


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its chain of causes and contexts, the original one last."""
    seen: list[BaseException] = []
    left: BaseException | None = error
    while left is not None and left not in seen:
        yield left
        seen.append(left)
        left = left.__cause__ or left.__context__
