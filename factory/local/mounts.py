"""Mounts that are always unmounted: by the block that made them, or after a kill by the next run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import run
from factory.local.host import check_loop_devices
from factory.local.loop import loop_device


@contextmanager
def mounted(disk: Path, target: Path, offset: int, *, read_only: bool = False) -> Iterator[Path]:
    """Mount the ext4 file system that starts `offset` bytes into `disk`; at the end `disk` is consistent.

    An offset is used because partition devices do not appear on every machine.
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
                if not read_only:  # so that a copy in another namespace cannot write to the disk any more
                    run("mount", "-o", "remount,ro", target)
            finally:
                run("umount", target)


@contextmanager
def reaching_copies(target: Path) -> Iterator[None]:
    """Make an unmount at `target` propagate to all mount namespaces.

    Any container or machine that starts meanwhile copies the host's mounts, and would keep the file system in
    use. An unmount propagates to the copies if the parent mount is shared. The host's root may not be shared,
    so the folder is bind-mounted onto itself and that mount is made shared (mount_namespaces(7)).
    """
    run("mount", "--bind", target, target)
    try:
        run("mount", "--make-shared", target)
        yield
    finally:
        run("umount", target)
