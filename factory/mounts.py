"""Mounts that are always taken down: by the block that made them, or by the next run after a kill."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import FactoryError, run

FREE_SECONDS = 60  # a container lets go of what it has copied within one


@contextmanager
def mounted(disk: Path, target: Path, offset: int, *, read_only: bool = False) -> Iterator[Path]:
    """Mount the ext4 file system that starts `offset` bytes into `disk`; afterwards `disk` is whole.

    The offset spares partition devices, which do not appear on every machine; the loop device frees itself.
    """
    target.mkdir(parents=True, exist_ok=True)
    options = f"loop,offset={offset}" + (",ro,noload" if read_only else "")
    run("mount", "-o", options, disk, target)
    try:
        yield target
    finally:
        device = [source for source, place in mounts() if place == target.resolve()][-1]
        run("umount", target)
        if not read_only:  # several may read a disk, and share its loop device
            wait_until_free(device)


def mounts() -> list[tuple[str, Path]]:
    """What is mounted, and where, in the order of the kernel's table, which writes a space as \\040."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(row[0], Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), row[1]))) for row in rows]


def unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted in `folder`, deepest first: what a killed run has left behind."""
    left = [(source, target) for source, target in mounts() if target.is_relative_to(folder.resolve())]
    for _, target in sorted(left, key=lambda mount: len(mount[1].parts), reverse=True):
        run("umount", target)
    for source, _ in left:
        wait_until_free(source)


def wait_until_free(device: str) -> None:
    """Wait until a loop device has let go of its file.

    Whatever starts or ends in a mount namespace of its own (a container, anybody's) holds a copy of the mount
    for a moment. Until that is gone the file system is in use, whoever unmounts it: it still writes to the
    file, so that a copy of the file would be damaged, and mounting it again would let two of them write.
    """
    backing = Path("/sys/block") / Path(device).name / "loop/backing_file"
    end = time.monotonic() + FREE_SECONDS
    while backing.exists():
        if time.monotonic() > end:
            raise FactoryError(
                f"{device} still holds {backing.read_text().strip()}", "Find what uses it: losetup; fuser -vm"
            )
        time.sleep(0.05)
