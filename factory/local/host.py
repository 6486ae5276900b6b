"""Requirements of this host, checked before an image is built, and a clear error for a full disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import FactoryError

FULL = 256 << 20  # bytes: with less free space, a failure is blamed on the full disk


def check_loop_devices() -> None:
    """Require a free loop device, to mount a disk with; FactoryError if there is none."""
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    device = found.stdout.strip()
    if found.returncode or not Path(device).exists():
        raise FactoryError(
            f"no free loop device to mount a disk: {found.stderr.strip() or f'no {device}'}",
            "losetup --all lists those in use, losetup --detach frees one. A container needs --privileged",
        )


def check_programs_run(folder: Path) -> None:
    """Require that a folder is not mounted noexec: mmdebstrap runs programs there; FactoryError if it is."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise FactoryError(
            f"the file system of {folder} is mounted noexec, but the base system is built there",
            f"Make {folder} a link to a folder elsewhere, or: mount -o remount,exec {mount_point(folder)}",
        )


def mount_point(folder: Path) -> Path:
    """The mount point of the file system that a folder is on."""
    return next(path for path in (folder, *folder.parents) if path.is_mount())


@contextmanager
def room(folder: Path, needed: float) -> Iterator[None]:
    """Require `needed` free bytes on a folder's disk for the block; FactoryError if there are fewer.

    If the block fails and the disk is full then, the FactoryError says so.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FactoryError(
            f"{folder} has {free / 1e9:.1f} GB left on {mount_point(folder)}, but a new image"
            f" needs {needed / 1e9:.0f} GB beside the old one",
            f"Free some (make clean removes all of {folder}), or make {folder} a link to a folder elsewhere",
        )
    try:
        yield
    except (FactoryError, OSError) as error:
        if shutil.disk_usage(folder).free > FULL:
            raise
        raise FactoryError(
            f"{folder} has no space left on {mount_point(folder)}: {error}",
            f"Free some, or make {folder} a link to a folder on a larger disk",
        ) from error
