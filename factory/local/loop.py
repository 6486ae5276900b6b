"""Loop devices: part of a file as a block device, for as long as it is in use."""

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
# struct loop_config: file, block size (0: default), struct loop_info64 (other fields 0), reserved
CONFIG = struct.Struct("=II 24x Q 20x I 176x 64x")


@contextmanager
def loop_device(disk: Path, offset: int, *, read_only: bool, direct_io: bool = False) -> Iterator[str]:
    """A new loop device for a file from `offset` bytes on; raises OSError.

    With `direct_io` it bypasses the page cache of the file, so that nothing is cached twice.

    The kernel frees it when neither this block nor a mount uses it any more, even if this process is killed.
    `mount -o loop` is no alternative: it would reuse the loop device of an earlier mount that still exists in
    another mount namespace, and the kernel would refuse that.
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
                if error.errno != errno.EBUSY:  # EBUSY: another process took it first
                    raise
                name, device = free_device()
    finally:
        os.close(file)
    try:
        yield name
    finally:
        os.close(device)


def free_device() -> tuple[str, int]:
    """Name and file descriptor of an unused loop device."""
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        name = f"/dev/loop{fcntl.ioctl(control, GET_FREE)}"
    finally:
        os.close(control)
    return name, os.open(name, os.O_RDWR)
