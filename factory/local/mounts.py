"""Mounts that are always taken down: by the block that made them, or by the next run after a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import run
from factory.local.host import check_loop_devices
from factory.local.loop import loop_device


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
