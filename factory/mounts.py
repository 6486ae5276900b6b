"""Mounts that are always taken down: by the block that made them, or by the next run after a kill."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import FactoryError, run
from factory.host import check_loop_devices
from factory.loop import loop_device

FREE_SECONDS = 10


@contextmanager
def mounted(disk: Path, target: Path, offset: int, *, read_only: bool = False) -> Iterator[Path]:
    """Mount the ext4 file system that starts `offset` bytes into `disk`; afterwards `disk` is whole.

    The offset spares partition devices, which do not appear on every machine.
    """
    check_loop_devices()
    target.mkdir(parents=True, exist_ok=True)
    with reaching_copies(target):
        with loop_device(disk, offset, read_only=read_only) as device:
            run("mount", "-o", "ro,noload" if read_only else "rw", device, target)
        try:
            yield target
        finally:
            try:
                if not read_only:  # a copy that is out of reach must not write to the disk any more
                    run("mount", "-o", "remount,ro", target)
            finally:
                run("umount", target)


@contextmanager
def reaching_copies(target: Path) -> Iterator[None]:
    """Let what is unmounted at `target` be unmounted in all mount namespaces.

    A container or machine of anybody's that starts meanwhile copies the host's mounts, and would keep the
    file system in use. An unmount reaches the copies if the mount above is shared, which the host's root need
    not be; a bind mount of the folder onto itself is (mount_namespaces(7)).
    """
    run("mount", "--bind", target, target)
    try:
        run("mount", "--make-shared", target)
        yield
    finally:
        run("umount", target)


def mounts() -> list[tuple[str, Path]]:
    """What is mounted, and where, in the order of the kernel's table, which writes a space as \\040."""
    rows = [line.split() for line in os.fsdecode(Path("/proc/self/mounts").read_bytes()).splitlines()]
    return [(row[0], Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), row[1]))) for row in rows]


def unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted below `folder`, deepest first: what a killed run has left behind.

    What is mounted at the folder itself stays: a disk that the user has given it.
    """
    left = [(source, target) for source, target in mounts() if folder.resolve() in target.parents]
    for _, target in sorted(left, key=lambda mount: len(mount[1].parts), reverse=True):
        run("umount", target)
    for source, _ in left:
        wait_until_free(source)


def wait_until_free(device: str) -> None:
    """Wait until a loop device has let go of its file.

    A container that was killed a moment ago still holds the mount in its dying namespace; mounting the same
    file again before that is gone would let two file systems write to it.
    """
    backing = Path("/sys/block") / Path(device).name / "loop/backing_file"
    end = time.monotonic() + FREE_SECONDS
    while backing.exists():
        if time.monotonic() > end:
            raise FactoryError(
                f"{device} still holds {backing.read_text().strip()}", "Find what uses it: losetup; fuser -vm"
            )
        time.sleep(0.05)
