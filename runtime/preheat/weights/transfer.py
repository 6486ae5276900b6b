"""The data of a state file into the memory of a device: one allocation, filled by several threads.

A GPU cannot copy from the page cache by itself, and pinning memory for it runs at 2 to 4 GB/s only, so the
file goes through a small ring of pinned slots. Each thread reads a chunk into a slot of its own, has the
device copy it in the background, and checks it meanwhile. If the device is the CPU, they copy plainly.
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
# Of O_DIRECT: by a file system without it, and for memory that no disk can write to, as pinned memory may be.
REFUSALS = (errno.EINVAL, errno.EFAULT)


class Slot:
    """Room for one chunk, which the file fills and the device empties."""

    def __init__(self, device: torch.device) -> None:
        """Page-aligned, as O_DIRECT wants it."""
        self.memory = torch.frombuffer(mmap.mmap(-1, statefile.CHUNK), dtype=torch.uint8)
        self.view = self.memory.numpy().data
        self.stream: Any = None  # torch.cuda.Stream, whose methods have no types
        self.pinned = False
        if device.type == "cuda":
            cuda: Any = torch.cuda
            self.stream = cuda.Stream(device)
            # Memory of our own that the driver pins, as a disk may refuse to write to memory of the driver's.
            self.pinned = cuda.cudart().cudaHostRegister(self.memory.data_ptr(), len(self.memory), 0) == 0
            if not self.pinned:  # it is only slower, but the next kernel would be told of the error again
                with suppress(RuntimeError):
                    torch.zeros(1, device=device)

    def send(self, target: Tensor) -> None:
        """Copy the slot's beginning to `target`; on a GPU, the copy goes on after the return."""
        if self.stream is None:
            target.copy_(self.memory[: len(target)])
            return
        with torch.cuda.stream(self.stream):
            target.copy_(self.memory[: len(target)], non_blocking=True)

    def wait(self) -> None:
        """Wait until the device has taken all that was sent."""
        if self.stream is not None:
            self.stream.synchronize()

    def close(self) -> None:
        """Wait, and give the memory back."""
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

    `direct` is whether to read past the page cache; by default those chunks that are not in it are.
    """
    header = reading.header()
    reading.stop()  # what it has not read ahead yet comes past the page cache
    target = torch.empty(header.size, dtype=torch.uint8, device=device)
    if target.is_cuda:  # what used this memory before must be over, for our streams do not wait for it
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
    """The open file once more, past the page cache; None where that cannot be. The caller closes it."""
    try:  # by its descriptor: another file may have its name by now
        return os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None


def fill(slot: memoryview, begin: int, length: int, buffered: int, direct: int | None) -> None:
    """Read `length` bytes of a file, from `begin` on, into a slot. Raises OSError, or ValueError if it ends.

    `direct` is the same file opened with O_DIRECT, which takes whole pages only: the last one may end after
    the file. Where it is refused, as after a read that ended within a page, the rest comes through the cache.
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
