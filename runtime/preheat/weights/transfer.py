"""Copies the data of a state file to a device: into one allocation, by several threads.

A GPU cannot copy from the page cache by itself, and pinning memory for all of the file would run at only 2 to
4 GB/s, so the file goes through a small ring of pinned slots. Each thread reads a chunk into one of its
slots, starts an asynchronous copy to the device, and meanwhile checks the chunk. On the CPU it is a plain
copy.
"""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from preheat.threads import share
from preheat.weights import statefile
from preheat.weights.readahead import THREADS, ReadAhead, cached
from preheat.weights.statefile import ALIGNMENT

SLOTS = 8  # of a chunk each: 128 MiB pinned in all
# Errors if O_DIRECT is refused: by file systems without it, and for memory that a disk cannot write to.
REFUSALS = (errno.EINVAL, errno.EFAULT)


class Slot:
    """A buffer for one chunk, filled from the file and copied to the device."""

    def __init__(self, device: torch.device) -> None:
        """Allocate the buffer, page-aligned for O_DIRECT."""
        self.memory = torch.frombuffer(mmap.mmap(-1, statefile.CHUNK), dtype=torch.uint8)
        self.view = self.memory.numpy().data
        self.stream: Any = None  # torch.cuda.Stream, whose methods have no types
        self.pinned = False
        if device.type == "cuda":
            cuda: Any = torch.cuda
            self.stream = cuda.Stream(device)
            # Our own memory, pinned by the driver: a disk may be unable to write to memory allocated by it.
            self.pinned = cuda.cudart().cudaHostRegister(self.memory.data_ptr(), len(self.memory), 0) == 0
            if not self.pinned:  # only slower; but the error stays pending, so let a dummy kernel take it
                with suppress(RuntimeError):
                    torch.zeros(1, device=device)

    def send(self, target: Tensor) -> None:
        """Copy the start of the slot to `target`; on a GPU asynchronously."""
        if self.stream is None:
            target.copy_(self.memory[: len(target)])
            return
        with torch.cuda.stream(self.stream):
            target.copy_(self.memory[: len(target)], non_blocking=True)

    def wait(self) -> None:
        """Wait until the device has copied all that was sent."""
        if self.stream is not None:
            self.stream.synchronize()

    def close(self) -> None:
        """Wait, and unpin the memory."""
        try:
            self.wait()
        finally:
            if self.pinned:
                cuda: Any = torch.cuda
                cuda.cudart().cudaHostUnregister(self.memory.data_ptr())


def to_device(
    reading: ReadAhead,
    device: str,
    *,
    threads: int = THREADS,
    slots: int = SLOTS,
    direct: bool | None = None,
) -> Tensor:
    """The data of a state file as [bytes] uint8 on a device, every byte checked. Raises StateError.

    `direct`: whether to bypass the page cache; by default only for chunks that are not in it.
    """
    header = reading.header()
    reading.stop()  # chunks that it has not read ahead yet are read directly
    target = torch.empty(header.size, dtype=torch.uint8, device=device)
    if target.is_cuda:  # earlier users of this memory must be done: our streams do not wait for them
        torch.cuda.synchronize(target.device)
    chunks = range(len(header.checksums))
    threads = min(threads, len(chunks))
    buffered, past = reading.fileno(), open_direct(reading.fileno()) if direct is not False else None

    def work(left: Iterator[int]) -> None:
        with ExitStack() as used:
            ring = [used.enter_context(closing(Slot(target.device))) for _ in range(max(1, slots // threads))]
            for i, slot in zip(left, cycle(ring)):
                part = header.chunk(i)
                begin, length = header.start + part.start, part.stop - part.start
                cold = direct or not cached(buffered, begin, begin + length)
                slot.wait()
                fill(slot.view, begin, length, buffered, past if cold else None)
                slot.send(target[part])
                header.check(i, slot.view[:length])

    try:
        with reading.phase("transfer data"), reading.naming:
            share(chunks, work, threads)
    finally:
        if past is not None:
            os.close(past)
    return target


def open_direct(file: int) -> int | None:
    """Reopen a file with O_DIRECT; None if that is not possible. The caller closes it."""
    try:  # by descriptor, as the path may name another file by now
        return os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None


def fill(slot: memoryview, begin: int, length: int, buffered: int, direct: int | None) -> None:
    """Read `length` bytes of a file from `begin` into a slot. Raises OSError, or ValueError if it ends.

    `direct` is the same file opened with O_DIRECT, which reads whole pages only; the last may extend beyond
    the file. If a read is refused, for instance after one that ended within a page, the rest is read through
    the page cache.
    """
    done = 0
    while done < length:
        try:
            if direct is None:
                count = os.preadv(buffered, [slot[done:length]], begin + done)
            else:
                count = os.preadv(direct, [slot[done : length + -length % ALIGNMENT]], begin + done)
        except OSError as error:
            if direct is None or error.errno not in REFUSALS:
                raise
            direct = None
            continue
        if count == 0:
            raise ValueError(f"was cut short while it was read: it ends at byte {begin + done:,}")
        done += count
