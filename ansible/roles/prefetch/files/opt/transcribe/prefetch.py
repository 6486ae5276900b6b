"""Read ahead what a start reads: preheat-prefetch.service runs this once the root file system is mounted.

    python3 prefetch.py [LIST]

LIST has ranges of files in the order in which a boot and a start of `transcribe` need them (its first lines
describe the format). A volume made from a snapshot fetches each block when it is first touched: one by one,
that takes a minute; with many at a time, only the volume's rate is the limit. What is read is put into the
page cache, up to half of the available memory; the rest is read with O_DIRECT, only to make the volume fetch
it.

It imports little of the standard library, because these modules come from the slow volume, too.
"""

import mmap
import os
import sys
import time
from threading import Thread

LIST = "/opt/transcribe/prefetch.list"
DEPTH = 64  # reads under way: enough for 1,600 MiB/s at 20 ms per block, more than volumes deliver
PIECE = 1 << 19  # bytes of a read: the size of a snapshot's block
PAGE = 4096  # O_DIRECT reads whole pages

Piece = tuple[str, int, int]  # path, offset, length


def pieces(text: str) -> tuple[list[Piece], int]:
    """The reads for a list, and the number of malformed lines in it."""
    wanted: list[Piece] = []
    damaged = 0
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        try:
            offset, length, path = line.split(" ", 2)
            end = int(offset) + int(length)
            wanted += [(path, at, min(PIECE, end - at)) for at in range(int(offset), end, PIECE)]
        except ValueError:
            damaged += 1
    return wanted, damaged


def free_memory() -> int:
    """Bytes of memory available without swapping; 0 if the kernel does not say."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


class Reader:
    """Reads pieces in order, with many threads."""

    def __init__(self, wanted: list[Piece], cached: int) -> None:
        """The first `cached` bytes of `wanted` go into the page cache."""
        self.total = sum(length for _, _, length in wanted)
        self.done: list[int] = []  # bytes of each read
        self.errors: dict[str, str] = {}  # by path
        before, left = 0, []
        for piece in wanted:
            left.append((piece, 0 if before < cached else os.O_DIRECT))
            before += piece[2]
        self._left = iter(left)  # threads may share a list's iterator

    def run(self) -> None:
        """Read all of it."""
        threads = [Thread(target=self._work) for _ in range(DEPTH)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        buffer = mmap.mmap(-1, PIECE)  # O_DIRECT needs aligned memory
        for (path, offset, length), flags in self._left:
            try:
                self.done.append(read(path, offset, length, flags, buffer))
            except OSError as error:
                self.errors[path] = error.strerror or str(error)


def read(path: str, offset: int, length: int, flags: int, buffer: mmap.mmap) -> int:
    """Read part of a file and discard it; returns the number of bytes. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: exactly this range
        room = memoryview(buffer)[: length + -length % PAGE]
        return min(os.preadv(file, [room], offset), length)
    finally:
        os.close(file)


def main() -> int:
    """Read all, and report in one line; returns 0 even after errors, as a start works without it."""
    started = time.monotonic()
    path = sys.argv[1] if len(sys.argv) > 1 else LIST
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            wanted, damaged = pieces(file.read())
    except OSError as error:
        print(f"nothing was read ahead: {path}: {error.strerror}")
        return 0
    reader = Reader(wanted, free_memory() // 2)
    reader.run()
    seconds, size = time.monotonic() - started, sum(reader.done)
    said = f"read {size / 1e6:.0f} MB in {seconds:.2f} s, {size / 1e6 / seconds:.0f} MB/s"
    if missing := reader.total - size:
        said += f"; {missing / 1e6:.3g} MB could not be read"
    if reader.errors:
        first = next(iter(reader.errors.items()))
        said += f", of {len(reader.errors)} files, such as {first[0]}: {first[1]}"
    if damaged:
        said += f"; {damaged} lines of {path} are damaged"
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
