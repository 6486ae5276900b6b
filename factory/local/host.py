"""What this host must have for an image, asked before the work begins; and a full disk told as what it is."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import FactoryError

FULL = 256 << 20  # bytes: with less, whatever has failed has failed for want of room


def check_loop_devices() -> None:
    """A loop device is free to mount a disk by; FactoryError if none is."""
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    device = found.stdout.strip()
    if found.returncode or not Path(device).exists():
        raise FactoryError(
            f"no loop device is free, by which a disk is mounted: {found.stderr.strip() or f'no {device}'}",
            "losetup --all lists those in use, losetup --detach frees one. A container needs --privileged",
        )


def check_programs_run(folder: Path) -> None:
    """Programs may be run in a folder, as mmdebstrap does in the system it makes; FactoryError if not."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise FactoryError(
            f"the file system of {folder} is mounted noexec, and the base system is made there",
            f"Make {folder} a link to a folder elsewhere, or: mount -o remount,exec {mount_point(folder)}",
        )


def mount_point(folder: Path) -> Path:
    """The folder at which the file system of a folder is mounted."""
    return next(path for path in (folder, *folder.parents) if path.is_mount())


@contextmanager
def room(folder: Path, needed: float) -> Iterator[None]:
    """What is done here takes `needed` bytes in a folder.

    FactoryError where there are not as many; and instead of any other error where the disk has become full.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FactoryError(
            f"{folder} has {free / 1e9:.1f} GB left on {mount_point(folder)}, and an image takes"
            f" {needed / 1e9:.0f} GB beside the one before",
            f"Free some (make clean removes all of {folder}), or make {folder} a link to a folder elsewhere",
        )
    try:
        yield
    except (FactoryError, OSError) as error:
        if shutil.disk_usage(folder).free > FULL:
            raise
        raise FactoryError(
            f"{folder} has no room left on {mount_point(folder)}: {error}",
            f"Free some, or make {folder} a link to a folder on a larger disk",
        ) from error
