"""The transfer to a GPU, with the CPU in its place; what differs on a GPU is tested on one."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from preheat.weights import state, statefile, transfer
from preheat.weights.checkpoint import Packed
from preheat.weights.readahead import ReadAhead, cached
from preheat.weights.statefile import StateError
from tests.runtime import handmade
from tests.runtime.handmade import SMALL_CHUNK, same

REAL = os.preadv
CUDA = torch.device("cuda")
LOOKS = 10  # a probe makes the kernel read the page, and the read may be done before the probe fails


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a small chunk size, so that a small file has several chunks."""
    monkeypatch.setattr(statefile, "CHUNK", SMALL_CHUNK)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of eight chunks, the last one short and of an odd length, that lies on the disk."""
    handmade.small(tmp_path / "small")
    return tmp_path / "small"


def load(path: Path, *, threads: int = 2, slots: int = 4, direct: bool | None = None) -> Packed:
    """Load as state.load does for a GPU."""
    reading = ReadAhead(path, "cuda")
    data = transfer.to_device(reading, "cpu", threads=threads, slots=slots, direct=direct)
    return state.views(data, reading.header().entries), reading.header().metadata


def is_open(path: Path) -> bool:
    """Whether this process still has the file open after up to ten seconds, as a thread may close it."""
    for _ in range(1000):
        targets = []
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the one of the listing itself, or closed by a thread
                targets.append(entry.readlink())
        if path not in targets:
            return False
        time.sleep(0.01)
    return True


def is_direct(file: int) -> bool:
    """Whether a descriptor reads past the page cache."""
    flags = Path(f"/proc/self/fdinfo/{file}").read_text().partition("flags:")[2].split()[0]
    return bool(int(flags, 8) & os.O_DIRECT)


def forget(path: Path) -> None:
    """Drop a file from the page cache; skip the test on file systems without a disk, such as tmpfs."""
    with path.open("rb") as opened:
        for _ in range(LOOKS):
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                REAL(opened.fileno(), [bytearray(1)], path.stat().st_size - 1, os.RWF_NOWAIT)
            except BlockingIOError:
                return
    pytest.skip("this file system keeps its files in memory")


Read = Callable[..., int]  # as os.preadv


def reading_by(read: Read, monkeypatch: pytest.MonkeyPatch, look: Read = REAL) -> None:
    """Replace os.preadv by `read` for chunks, and by `look` for page cache probes, which pass flags."""

    def preadv(file: int, buffers: list[memoryview], at: int, flags: int = 0) -> int:
        return look(file, buffers, at, flags) if flags else read(file, buffers, at)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(ReadAhead, "_read_ahead", lambda _: None)


@pytest.mark.parametrize("direct", [True, False, None])
@pytest.mark.parametrize("slots", [1, 3, 100])
@pytest.mark.parametrize("threads", [1, 2, 3, 100])
def test_any_threads_and_slots(threads: int, slots: int, direct: bool | None, file: Path) -> None:
    """More chunks than slots, as many and fewer; more threads than chunks."""
    wanted, _ = state.load(ReadAhead(file))
    assert same(load(file, threads=threads, slots=slots, direct=direct)[0], wanted)


def test_the_file_is_odd(file: Path) -> None:
    header = ReadAhead(file).header()
    assert len(header.checksums) == 8
    assert 0 < header.size % SMALL_CHUNK < SMALL_CHUNK and header.size % 512


@pytest.mark.parametrize("size", [1, 2, 8])
def test_any_number_of_chunks(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partial chunk, two, and a last chunk that is full."""
    monkeypatch.setattr(statefile, "CHUNK", {1: 16 << 20, 2: 272 << 10, 8: SMALL_CHUNK}[size])
    wanted, _ = handmade.small(tmp_path / "file")
    assert len(ReadAhead(tmp_path / "file").header().checksums) == size
    assert same(load(tmp_path / "file", direct=True)[0], wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_any_dtype(dtype: str, tmp_path: Path) -> None:
    wanted, _ = handmade.small(tmp_path / "file", dtype)
    assert same(load(tmp_path / "file")[0], wanted)
    assert same(state.load(ReadAhead(tmp_path / "file"))[0], wanted)


def test_tensors_are_views_of_one_allocation(file: Path) -> None:
    tensors, _ = load(file)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1


def test_no_descriptor_is_left_open(file: Path) -> None:
    load(file, direct=True)
    assert not is_open(file)
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(StateError, match="is damaged"):
        load(file, direct=True)
    assert not is_open(file)


def test_past_the_page_cache_what_is_not_in_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[bool] = []
    cold: list[bool] = []  # the result of each probe

    def note(file: int, buffers: list[memoryview], at: int) -> int:
        ways.append(is_direct(file))
        return REAL(file, buffers, at)

    def look(file: int, buffers: list[memoryview], at: int, flags: int) -> int:
        try:
            count: int = REAL(file, buffers, at, flags)
        except BlockingIOError:
            cold.append(True)
            raise
        cold.append(False)
        return count

    reading_by(note, monkeypatch, look)
    load(file)
    assert ways == cold == [False] * 8
    for direct in (None, False):
        reading = ReadAhead(file, "cuda")
        reading.header()  # the kernel also reads ahead after it
        forget(file)
        ways.clear()
        cold.clear()
        transfer.to_device(reading, "cpu", threads=1, direct=direct)
        assert any(cold)
        assert ways == (cold if direct is None else [False] * 8)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_may_not_write_sees_the_page_cache_too(file: Path) -> None:
    """Most users may not write to the file; mincore(2) would report to them that all of it is cached."""
    for folder in (file, *file.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):  # noqa: S108  it is open to all
            folder.chmod(folder.stat().st_mode | 0o055)
    with file.open("rb") as opened:

        def forgotten_is_cached() -> bool:
            forget(file)
            return cached(opened.fileno(), 4096, 8192)

        os.seteuid(65534)
        try:
            assert cached(opened.fileno(), 4096, 8192)
            assert not all(forgotten_is_cached() for _ in range(LOOKS))
        finally:
            os.seteuid(0)


def test_a_file_system_that_cannot_tell(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is read through the page cache."""
    forget(file)

    def preadv(file: int, buffers: list[memoryview], at: int, flags: int = 0) -> int:
        assert not is_direct(file)
        if flags:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return REAL(file, buffers, at)

    wanted, _ = state.load(ReadAhead(file))
    monkeypatch.setattr(os, "preadv", preadv)
    assert same(load(file)[0], wanted)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EFAULT])
def test_direct_reads_may_be_refused(number: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On reading or on opening the file; or because of the memory that is read into."""
    wanted, _ = state.load(ReadAhead(file))
    refused = 0

    def refuse(file: int, buffers: list[memoryview], at: int) -> int:
        nonlocal refused
        if is_direct(file):
            refused += 1
            raise OSError(number, os.strerror(number))
        return REAL(file, buffers, at)

    reading_by(refuse, monkeypatch)
    assert same(load(file, direct=True)[0], wanted)
    assert refused == 8
    opened = os.open

    def refuse_to_open(path: str, flags: int, *more: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse_to_open)
    assert same(load(file, direct=True)[0], wanted)
    assert refused == 8


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("most", [100, 4096, 10_000, 40_960])
def test_reads_may_be_short(most: int, direct: bool, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short direct reads end at a sector, but maybe within a page."""
    wanted, _ = state.load(ReadAhead(file))

    def read(file: int, buffers: list[memoryview], at: int) -> int:
        return min(REAL(file, buffers, at), most)

    reading_by(read, monkeypatch)
    assert same(load(file, direct=direct)[0], wanted)


@pytest.mark.parametrize("direct", [True, False, None])
def test_a_file_that_shrinks_meanwhile(
    direct: bool | None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(opened: int, buffers: list[memoryview], at: int) -> int:
        os.truncate(file, 300_001)
        return REAL(opened, buffers, at)

    reading_by(cut, monkeypatch)
    with pytest.raises(StateError, match=r"was cut short while it was read: it ends at byte 300,001"):
        load(file, threads=1, direct=direct)


def test_a_file_that_is_replaced_meanwhile(file: Path) -> None:
    """The file that was checked is the one that is loaded."""
    wanted, _ = state.load(ReadAhead(file))
    reading = ReadAhead(file, "cuda")
    reading.header()
    handmade.small(file, "float16")
    data = transfer.to_device(reading, "cpu", direct=True)
    assert same(state.views(data, reading.header().entries), wanted)


def test_an_error_of_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed read is not tried again in the other mode."""
    ways = []

    def fail(file: int, buffers: list[memoryview], at: int) -> int:
        ways.append(is_direct(file))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    reading_by(fail, monkeypatch)
    for direct in (True, False):
        with pytest.raises(StateError, match=r"cannot read .*: Input/output error; run state.py bake again"):
            load(file, threads=1, direct=direct)
    assert ways == [True, False]


def test_control_c_ends_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads end before it is raised."""
    reads = 0

    def interrupted(file: int, buffers: list[memoryview], at: int) -> int:
        nonlocal reads
        reads += 1
        raise KeyboardInterrupt

    reading_by(interrupted, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        load(file, threads=1)
    assert reads == 1


@dataclass
class Runtime:
    """A stand-in for the CUDA runtime, as far as it pins memory."""

    answer: int = 0
    pinned: dict[int, int] = field(default_factory=dict)

    def cudaHostRegister(self, address: int, size: int, _flags: int) -> int:  # noqa: N802  its name
        if not self.answer:
            self.pinned[address] = size
        return self.answer

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802  its name
        del self.pinned[address]
        return 0


@pytest.mark.parametrize("answer", [0, 801])
def test_slots_are_memory_of_ours_that_the_driver_pins(answer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If pinning fails, they stay unpinned."""
    runtime = Runtime(answer)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    launched = []

    def launch(*_: Any, device: torch.device) -> None:
        launched.append(device)
        raise RuntimeError("CUDA error: operation not supported")

    monkeypatch.setattr(torch, "zeros", launch)
    slot = transfer.Slot(CUDA)
    pages = {slot.memory.data_ptr(): len(slot.memory)}
    assert slot.memory.data_ptr() % 4096 == 0
    assert runtime.pinned == ({} if answer else pages)
    assert launched == ([CUDA] if answer else [])  # consumes the pending error before the first real kernel
    slot.stream = None  # nothing was sent
    slot.close()
    assert runtime.pinned == {}


@pytest.mark.parametrize("damaged", [False, True])
def test_all_slots_are_given_back(damaged: bool, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[transfer.Slot] = []
    closed: list[transfer.Slot] = []
    init = transfer.Slot.__init__

    def note(self: transfer.Slot, device: torch.device) -> None:
        init(self, device)
        made.append(self)

    monkeypatch.setattr(transfer.Slot, "__init__", note)
    monkeypatch.setattr(transfer.Slot, "close", lambda slot: closed.append(slot))  # noqa: PLW0108  a method
    if damaged:
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(StateError) if damaged else nullcontext():
        load(file)
    assert made and sorted(map(id, closed)) == sorted(map(id, made))


def test_a_slot_is_given_back_though_the_device_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    runtime = Runtime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(synchronize=fail))
    slot = transfer.Slot(CUDA)
    with pytest.raises(RuntimeError):
        slot.close()
    assert runtime.pinned == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("direct", [True, False, None])
@pytest.mark.parametrize(("threads", "slots"), [(1, 1), (2, 4), (8, 8)])
def test_to_a_gpu(threads: int, slots: int, direct: bool | None, file: Path) -> None:
    wanted, metadata = state.load(ReadAhead(file))
    reading = ReadAhead(file, "cuda")
    data = transfer.to_device(reading, "cuda", threads=threads, slots=slots, direct=direct)
    found = state.views(data, reading.header().entries)
    assert same({name: tensor.cpu() for name, tensor in found.items()}, wanted)
    for reading in (ReadAhead(file, "cuda"), ReadAhead(file, "cpu")):
        tensors, said = state.load(reading, "cuda")
        assert all(tensor.is_cuda for tensor in tensors.values()) and said == metadata
        assert same({name: tensor.cpu() for name, tensor in tensors.items()}, wanted)
    assert same(state.load(ReadAhead(file, "cuda"), "cpu")[0], wanted)
