"""Lay the data of prefetch.list together on the disk, in its order, to occupy few blocks of the volume.

    python3 layout.py LIST

The extents of the listed ranges are exchanged, by the ioctl that e4defrag(8) uses, with those of a file that
was allocated in one piece. The kernel copies the data; a file keeps its inode, owner, mode, times, attributes
and links, and unlisted parts of a large library stay where they are. A running program cannot be opened for
writing, so it is replaced by a copy of itself first. Only ext4 supports this; on other file systems, nothing
is changed, and a message says so.

Run as root on the builder, as the last step, by the machine's own Python; standard library only.
"""

import errno
import fcntl
import os
import shutil
import struct
import sys

BLOCK = 4096  # ext4's block size, except on very small disks
EXCHANGE = 0xC028660F  # EXT4_IOC_MOVE_EXT, of struct move_extent
# Its members: reserved, donor file, first block in the file, first block in the donor, blocks, blocks moved.
ARGUMENTS = struct.Struct("=IIQQQQ")
DONOR = "/.layout"
CANNOT = (errno.ENOTTY, errno.EOPNOTSUPP)

Range = tuple[str, int, int]  # path, first block, blocks


def listed(text: str) -> list[Range]:
    """The ranges of a list, in blocks."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            offset, length, path = line.split(" ", 2)
            first = int(offset) // BLOCK
            found.append((path, first, -(-(int(offset) + int(length)) // BLOCK) - first))
    return found


def exchange(file: int, donor: int, here: int, there: int, blocks: int) -> None:
    """Exchange the extents of `blocks` blocks of two files. Raises OSError."""
    while blocks:
        arguments = bytearray(ARGUMENTS.pack(0, donor, here, there, blocks, 0))
        fcntl.ioctl(file, EXCHANGE, arguments, True)
        done = ARGUMENTS.unpack(arguments)[5]
        if not done:
            raise OSError(errno.EIO, "no block was exchanged")
        here, there, blocks = here + done, there + done, blocks - done


def opened(path: str) -> int:
    """Open a file for writing, a running program after replacing it by a copy. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ETXTBSY or os.lstat(path).st_nlink > 1:
            raise
    copy = f"{path}.layout"
    shutil.copy2(path, copy)  # keeps mode, times and extended attributes
    owner = os.lstat(path)
    os.chown(copy, owner.st_uid, owner.st_gid)
    os.chmod(copy, owner.st_mode)  # again: chown clears set-user-ID
    file = os.open(copy, os.O_RDWR)
    os.fsync(file)
    os.rename(copy, path)
    return file


def lay(ranges: list[Range], donor: int) -> list[str]:
    """Exchange all ranges; returns a line for each file that could not be moved. Raises OSError."""
    left: list[str] = []
    there = 0
    for path, here, blocks in ranges:
        try:
            file = opened(path)
            try:
                os.fsync(file)  # blocks that are not allocated on the disk yet cannot be exchanged
                exchange(file, donor, here, there, blocks)
            finally:
                os.close(file)
        except OSError as error:
            if error.errno in CANNOT:
                raise
            left.append(f"{path}: {error.strerror}")
        there += blocks
    return left


def main() -> int:
    """The command line; returns the exit code."""
    with open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as file:
        ranges = listed(file.read())
    blocks = sum(blocks for *_, blocks in ranges)
    donor = os.open(DONOR, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(donor, 0, blocks * BLOCK)
        left = lay(ranges, donor)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        print("the file system is not ext4: nothing is moved")
        return 0
    finally:
        os.close(donor)
        os.unlink(DONOR)
        os.sync()
    print(f"{blocks * BLOCK / 1e6:.0f} MB of {len({path for path, *_ in ranges})} files lie together")
    for line in left:
        print(line, file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
