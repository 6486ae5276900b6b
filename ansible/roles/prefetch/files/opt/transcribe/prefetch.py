"""Read ahead what a start reads: preheat-prefetch.service runs this as soon as the root file system is there.

    python3 prefetch.py [LIST]

LIST names ranges of files in the order in which a boot and a start of `transcribe` need them (its own first
lines say how). A volume made from a snapshot fetches each block when it is first touched: one after another
that takes a minute, many at a time it takes as long as the volume's rate allows. What is read goes into the
page cache as long as it takes no more than half of the memory that is free; what comes after that only makes
the volume fetch it.

Standard library, and little of it: these modules come from the slow volume, too.
"""

import mmap
import os
import sys
import time
from threading import Thread

LIST = "/opt/transcribe/prefetch.list"
DEPTH = 64  # reads under way: 1,600 MiB/s where a block takes 20 ms, more than volumes deliver
PIECE = 1 << 19  # bytes of a read: the block of a snapshot
PAGE = 4096  # O_DIRECT reads whole ones

Piece = tuple[str, int, int]  # path, offset, length


def pieces(text: str) -> tuple[list[Piece], int]:
    """The reads that a list asks for, and how many of its lines say nothing that can be read."""
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
    """Bytes that can be had without swapping; 0 if the kernel does not say."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


class Reader:
    """Reads pieces in order, by many threads."""

    def __init__(self, wanted: list[Piece], cached: int) -> None:
        """Of `wanted`, the first `cached` bytes go into the page cache."""
        self.total = sum(length for _, _, length in wanted)
        self.done: list[int] = []  # bytes of each read
        self.errors: dict[str, str] = {}  # by path
        before, left = 0, []
        for piece in wanted:
            left.append((piece, 0 if before < cached else os.O_DIRECT))
            before += piece[2]
        self._left = iter(left)  # a list's iterator may be shared by threads

    def run(self) -> None:
        """Read all of it."""
        threads = [Thread(target=self._work) for _ in range(DEPTH)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        buffer = mmap.mmap(-1, PIECE)  # O_DIRECT wants its memory aligned
        for (path, offset, length), flags in self._left:
            try:
                self.done.append(read(path, offset, length, flags, buffer))
            except OSError as error:
                self.errors[path] = error.strerror or str(error)


def read(path: str, offset: int, length: int, flags: int, buffer: mmap.mmap) -> int:
    """Read a part of a file, for the sake of reading; returns how many bytes there were. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # exactly what is asked for, at once
        room = memoryview(buffer)[: length + -length % PAGE]
        return min(os.preadv(file, [room], offset), length)
    finally:
        os.close(file)


def main() -> int:
    """Read, and say in one line how it went; returns 0, for a start can do without."""
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
