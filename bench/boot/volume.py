"""Serves a disk image as a file whose blocks are slow on first touch, like a volume made from a snapshot.

    /usr/bin/python3 volume.py DISK FOLDER LATENCY_MS MIB_PER_S LOG.json

serves FOLDER/disk. A block of 512 KiB takes LATENCY_MS when it is first read, and blocks arrive at MIB_PER_S
at most; a block that has arrived costs nothing. Any number may be under way at once, so that only the reader
limits the concurrency. On SIGTERM it writes LOG.json and exits: the monotonic time in seconds at which each
block arrived, the most blocks that were under way at once, and the processor seconds used.

It needs Debian's Python, because pyfuse3 comes from the package python3-pyfuse3 and is not in .venv.
"""

import errno
import json
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path

import pyfuse3
import trio

BLOCK = 1 << 19
DISK = 2  # inode of the file; the folder's is 1


class Volume(pyfuse3.Operations):  # type: ignore[misc]  # it ships no types
    """A file system with one file."""

    enable_writeback_cache = False

    def __init__(self, disk: str, latency: float, rate: float) -> None:
        """`latency` in seconds, `rate` in bytes a second."""
        super().__init__()
        self._disk = os.open(disk, os.O_RDONLY)
        self._size = os.fstat(self._disk).st_size
        self._latency, self._rate = latency, rate
        self._blocks: dict[int, trio.Event] = {}
        self._free_at = 0.0  # when the next block may arrive
        self._under_way = 0
        self.most = 0
        self.arrived: list[float] = []

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        found = pyfuse3.EntryAttributes()
        found.st_ino, found.st_nlink = inode, 1
        found.attr_timeout = found.entry_timeout = 3600
        if inode == pyfuse3.ROOT_INODE:
            found.st_mode = stat.S_IFDIR | 0o755
        else:
            found.st_mode, found.st_size = stat.S_IFREG | 0o444, self._size
        return found

    async def getattr(self, inode: int, ctx: object = None) -> pyfuse3.EntryAttributes:
        """The attributes of the folder or of the file."""
        return self._attributes(inode)

    async def lookup(self, parent: int, name: bytes, ctx: object = None) -> pyfuse3.EntryAttributes:
        """Look up a name; the only one is `disk`."""
        if name != b"disk":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(DISK)

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        """Open the file."""
        return pyfuse3.FileInfo(fh=DISK, keep_cache=True)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read bytes, after all their blocks have arrived."""
        for block in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
            await self._fetch(block)
        return os.pread(self._disk, size, offset)

    async def _fetch(self, block: int) -> None:
        """Wait until a block has arrived."""
        if event := self._blocks.get(block):
            await event.wait()
            return
        event = self._blocks[block] = trio.Event()
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + BLOCK / self._rate
        await trio.sleep(max(self._latency, self._free_at - now))
        self._under_way -= 1
        self.arrived.append(time.monotonic())
        event.set()


async def serve() -> None:
    """Serve until SIGTERM."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                break
        pyfuse3.terminate()
        nursery.cancel_scope.cancel()


def main() -> None:
    """The command line."""
    disk, folder, latency, rate, log = sys.argv[1:6]
    volume = Volume(disk, float(latency) / 1e3, float(rate) * 2**20)
    options = set(pyfuse3.default_options) | {"fsname=lazy", "ro"}
    pyfuse3.init(volume, folder, options - {"default_permissions"})
    try:
        trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)
        used = resource.getrusage(resource.RUSAGE_SELF)
        said = {"arrived": volume.arrived, "most": volume.most, "cpu_s": used.ru_utime + used.ru_stime}
        Path(log).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
