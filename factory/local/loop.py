"""Loop devices: a part of a file as a block device, for as long as somebody uses it."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# ioctls of linux/loop.h
GET_FREE, CONFIGURE = 0x4C82, 0x4C0A
READ_ONLY, AUTOCLEAR, DIRECT_IO = 1, 4, 16
# struct loop_config: file, block size (0: the usual), struct loop_info64 (of which all else is 0), reserved
CONFIG = struct.Struct("=II 24x Q 20x I 176x 64x")


@contextmanager
def loop_device(disk: Path, offset: int, *, read_only: bool, direct_io: bool = False) -> Iterator[str]:
    """A new loop device for what starts `offset` bytes into a file; raises OSError.

    With `direct_io` it reads past the page cache of the file, so that nothing is cached twice.

    It frees itself when neither this block nor a mount uses it any more, even after a kill. `mount -o loop`
    would take the device of a mount that somebody still has a copy of, and the kernel would refuse it.
    """
    flags = AUTOCLEAR | READ_ONLY * read_only | DIRECT_IO * direct_io
    file = os.open(disk, os.O_RDONLY if read_only else os.O_RDWR)
    try:
        name, device = free_device()
        while True:
            try:
                fcntl.ioctl(device, CONFIGURE, CONFIG.pack(file, 0, offset, flags))
                break
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # somebody else was quicker
                    raise
                name, device = free_device()
    finally:
        os.close(file)
    try:
        yield name
    finally:
        os.close(device)


def free_device() -> tuple[str, int]:
    """Name and descriptor of a loop device that nobody uses."""
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        name = f"/dev/loop{fcntl.ioctl(control, GET_FREE)}"
    finally:
        os.close(control)
    return name, os.open(name, os.O_RDWR)
