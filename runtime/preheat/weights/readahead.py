"""Reads and checks a state file in background threads, while torch is still being imported."""

import mmap
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from threading import Event
from typing import BinaryIO

from preheat.threads import share, start
from preheat.timing import Log
from preheat.weights import statefile
from preheat.weights.statefile import Header, naming, read_header

THREADS = 8  # regardless of the number of cores, as they mostly wait for the disk or the device
# Page faults and checksums are CPU-bound: more threads than cores would delay the import of torch.
CHECKERS = min(THREADS, len(os.sched_getaffinity(0)))
PROBE = 1 << 20  # bytes between two probes of the page cache


class ReadAhead:
    """A state file that background threads open, check and read.

    For the CPU the file is mapped and every chunk is checked, which reads it. For a GPU only the header is
    checked, and the file is read into the page cache until transfer.py takes over, which checks what it
    copies. An object made for one device also works for the other, only slower.

    The threads import nothing, since torch is being imported meanwhile and a module must not be imported by
    two threads at once. They do not keep the process from ending.
    """

    def __init__(self, path: Path, device: str = "cpu", log: Log | None = None) -> None:
        """Start to read; returns at once and raises nothing. `log` records the phases."""
        self.path = path
        self.naming = naming(path)  # also for users of the file's content
        self._log = log
        self._for_cpu = device == "cpu"
        self._file: BinaryIO | None = None
        self._header: Header | None = None
        self._data: memoryview | None = None  # set once it is checked
        self._error: Exception | None = None
        self._stopped = False
        self._opened, self._done = Event(), Event()
        if not start(self._run):
            self._run()

    def __del__(self) -> None:
        """Close the file. Not earlier: threads may still read it, and they keep this object alive."""
        if self._file:
            self._file.close()

    def header(self) -> Header:
        """Wait for the header. Raises StateError."""
        self._opened.wait()
        if self._header is None:
            assert self._error  # noqa: S101  for mypy: one of the two is set
            raise self._error
        return self._header

    def data(self) -> memoryview:
        """Wait until every byte is checked; returns the data as a private memory map. Raises StateError.

        Truncating the file while it is mapped would kill this process by SIGBUS, as with any shared library.
        `bake` does not truncate: it replaces the file by a new one.
        """
        self.header()
        if self._for_cpu:
            self._done.wait()
        if self._error is None and self._data is None:  # made for a GPU, or stopped
            self._stopped = False
            self._check()
        if self._data is None:
            assert self._error  # noqa: S101  as above
            raise self._error
        return self._data

    def fileno(self) -> int:
        """The descriptor of the file, open as long as this object lives. Raises StateError."""
        self.header()
        assert self._file  # noqa: S101  as above
        return self._file.fileno()

    def stop(self) -> None:
        """End the work in the background after the current chunks."""
        self._stopped = True

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Record a phase, if there is a log."""
        return self._log.phase(name) if self._log else nullcontext()

    def _run(self) -> None:
        """All the work in the background."""
        try:
            with self.phase("check header"), self.naming:
                self._file = self.path.open("rb")
                self._header = read_header(self._file)
        except Exception as error:  # for the thread that waits
            self._error = error
        self._opened.set()
        if self._header:
            if self._for_cpu:
                self._check()
            else:
                self._read_ahead()
        self._done.set()

    def _read_ahead(self) -> None:
        """Read what is not in the page cache into it.

        Not by posix_fadvise: it does not block, but requests at most 128 KiB to a few MiB from the disk,
        whatever length it is given. With a call for each of these, this thread would wait for the GIL each
        time, which the import of torch holds.
        """
        header = self.header()

        def read(chunks: Iterator[int]) -> None:
            room = scatter_buffer()
            for i in chunks:
                if self._stopped:
                    return
                self._read(i, room)

        with self.phase("read ahead"), suppress(OSError):  # the later use of the file meets the error again
            share(range(len(header.checksums)), read, THREADS)

    def _check(self) -> None:
        """Map the file and check all chunks: sets _data or _error, or neither if it is stopped.

        If the file is not in the page cache, each chunk is first read in one call, and by more threads: a
        page fault requests only 128 KiB and waits, and a fresh volume is slow (bench/boot/depth.py).
        """
        header = self.header()
        cold = self._is_cold()

        def check(chunks: Iterator[int]) -> None:
            room = scatter_buffer() if cold else []
            for i in chunks:
                if self._stopped:
                    return
                if cold:
                    self._read(i, room)
                header.check(i, data[header.chunk(i)])

        try:
            with self.phase("read and check data" if cold else "check data"), self.naming:
                # A private map is writable, as torch wants it; the file itself never changes.
                view = mmap.mmap(self.fileno(), header.start + header.size, access=mmap.ACCESS_COPY)
                data = memoryview(view)[header.start :]
                share(range(len(header.checksums)), check, THREADS if cold else CHECKERS)
            if not self._stopped:
                self._data = data
        except Exception as error:  # for the thread that waits
            self._error = error

    def _read(self, i: int, room: list[bytearray]) -> None:
        """Read a chunk into the page cache, unless it is there."""
        header = self.header()
        begin, end = header.start + header.chunk(i).start, header.start + header.chunk(i).stop
        if not cached(self.fileno(), begin, end):
            os.preadv(self.fileno(), room, begin)

    def _is_cold(self) -> bool:
        """Whether some of the file seems not to be in the page cache; only three probes, to save time."""
        header, last = self.header(), len(self.header().checksums) - 1
        starts = [header.start + header.chunk(i).start for i in {0, last // 2, last}] if last >= 0 else []
        return not all(cached(self.fileno(), at, at + 1) for at in starts)


def scatter_buffer() -> list[bytearray]:
    """A scatter buffer of a chunk's size for reads into the page cache: the same 256 KiB 64 times."""
    return [bytearray(statefile.CHUNK // 64)] * 64


def cached(file: int, begin: int, end: int) -> bool:
    """Whether these bytes of a file seem to be in the page cache; also True if that is unknown.

    Not by mincore(2): to users who may not write to the file, all but root here, it reports all as cached.
    """
    byte = bytearray(1)
    try:
        for at in range(begin, end, PROBE):
            os.preadv(file, [byte], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # the file system does not support RWF_NOWAIT
        return True
    return True
