"""Reading a state file in the background: early, without torch, without blocking the process."""

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from preheat.timing import Log
from preheat.weights import readahead, state, statefile
from preheat.weights.readahead import ReadAhead
from preheat.weights.statefile import StateError
from tests.runtime import handmade
from tests.runtime.handmade import SMALL_CHUNK, same


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of eight chunks."""
    monkeypatch.setattr(statefile, "CHUNK", SMALL_CHUNK)
    handmade.small(tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def damaged(file: Path) -> Path:
    """The same, with another last byte."""
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return file


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_reading_gives_what_the_file_does(device: str, file: Path) -> None:
    """Also if it was started for a GPU."""
    tensors, metadata = state.load(ReadAhead(file, device))
    wanted, said = state.load(ReadAhead(file))
    assert same(tensors, wanted) and metadata == said


def test_one_that_was_stopped(file: Path) -> None:
    started = ReadAhead(file)
    started.stop()
    assert same(state.load(started)[0], state.load(ReadAhead(file))[0])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_error_waits_for_who_loads(device: str, damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="is damaged: chunk 7 has checksum"):
        state.load(ReadAhead(damaged, device))
    missing = ReadAhead(tmp_path / "missing", device)
    for _ in range(2):
        with pytest.raises(StateError, match="No such file or directory"):
            state.load(missing)


def test_the_file_never_changes(file: Path) -> None:
    """Changing a tensor changes neither the file nor what other readers get."""
    content = file.read_bytes()
    tensors, _ = state.load(ReadAhead(file))
    tensors["decoder.norm.bias"].fill_(1)
    assert file.read_bytes() == content
    assert not same(state.load(ReadAhead(file))[0], tensors)


@pytest.mark.parametrize(
    ("device", "phases"),
    [("cpu", {"check header", "check data"}), ("cuda", {"check header", "read ahead"})],
)
def test_phases_are_noted(device: str, phases: set[str], file: Path) -> None:
    log = Log(quiet=True)
    ReadAhead(file, device, log).header()
    deadline = time.monotonic() + 10
    while len(log.phases) <= len(phases) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {phase["name"] for phase in log.phases} == phases | {"start python"}


def resident(path: Path) -> list[bool]:
    """Whether each page of a file is in the page cache."""
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    pages = (ctypes.c_ubyte * -(-len(memory) // mmap.PAGESIZE))()
    start = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    assert ctypes.CDLL(None).mincore(start, ctypes.c_size_t(len(memory)), pages) == 0
    return [bool(page & 1) for page in pages]


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file of three chunks of the usual size, of which nothing is in the page cache."""
    path = tmp_path / "cold"
    handmade.small(path, dims=replace(handmade.DIMENSIONS, vocab_size=170_000))
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if any(resident(path)):
        pytest.skip("this file system keeps its files in memory")
    return path


def test_all_is_read_ahead(cold: Path) -> None:
    """To the last page, whatever the disk's read-ahead limit is."""
    started = ReadAhead(cold, "cuda")
    assert len(started.header().checksums) == 3
    deadline = time.monotonic() + 30
    while not all(resident(cold)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(resident(cold))


def test_many_read_for_a_cpu_what_is_not_there(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with few cores: more threads read than check, as page faults wait for the disk and read little."""
    monkeypatch.setattr(readahead, "CHECKERS", 1)
    read, was_read = os.preadv, []
    together = threading.Barrier(3, timeout=30)

    def note(file: int, buffers: list[bytearray], at: int, flags: int = 0) -> int:
        if not flags:
            was_read.append(at)
            together.wait()
        return read(file, buffers, at, flags)

    monkeypatch.setattr(os, "preadv", note)
    log = Log(quiet=True)
    reads = ReadAhead(cold, "cpu", log)
    reads.data()
    header = reads.header()
    assert sorted(was_read) == [header.start + header.chunk(i).start for i in range(3)]
    assert "read and check data" in {phase["name"] for phase in log.phases}


def test_a_disk_that_fails_is_an_error(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.preadv

    def fail(file: int, buffers: list[bytearray], at: int, flags: int = 0) -> int:
        if flags:
            return read(file, buffers, at, flags)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(StateError, match="Input/output error"):
        ReadAhead(cold, "cpu").data()


def test_reading_ahead_ends_when_it_is_stopped(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the current chunks."""
    monkeypatch.setattr(readahead, "THREADS", 1)
    read, started, go_on = os.preadv, threading.Event(), threading.Event()
    was_read: list[slice] = []

    def wait(file: int, buffers: list[bytearray], at: int, flags: int = 0) -> int:
        if flags:
            return read(file, buffers, at, flags)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # otherwise the kernel reads ahead by itself
        started.set()
        go_on.wait(10)
        count = read(file, buffers, at)
        was_read.append(slice(at, at + count))
        return count

    monkeypatch.setattr(os, "preadv", wait)
    reads = ReadAhead(cold, "cuda")
    assert started.wait(10)
    reads.stop()
    go_on.set()
    assert reads._done.wait(10)
    header = reads.header()
    assert was_read == [slice(header.start, header.start + header.chunk(0).stop)]
    assert not any(resident(cold)[header.chunk(2).start // mmap.PAGESIZE :])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_in_the_page_cache_is_not_read_ahead(
    device: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the CPU, where all of it is checked anyway, only three chunks are probed."""
    looks, read = [], os.preadv

    def look(file: int, buffers: list[bytearray], at: int, flags: int = 0) -> int:
        assert flags == os.RWF_NOWAIT
        looks.append(at)
        return read(file, buffers, at, flags)

    file.read_bytes()
    monkeypatch.setattr(os, "preadv", look)
    done = ReadAhead(file, device)
    assert done._done.wait(10)
    assert len(looks) == (8 if device == "cuda" else 3)


def test_without_threads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance under a limit on the number of processes."""
    wanted, _ = state.load(ReadAhead(file))

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert same(state.load(ReadAhead(file))[0], wanted)


# What imports while the reading's threads run, and whether torch had to.
SPY = """
import sys, threading
from preheat.weights import readahead, statefile
statefile.CHUNK = {chunk}
class Spy:
    def find_spec(self, name, *_):
        if threading.current_thread() is not threading.main_thread():
            print("imported", name)
sys.meta_path.insert(0, Spy())
from pathlib import Path
from preheat.timing import Log
for path in sys.argv[1:]:
    for device in ("cpu", "cuda"):
        started = readahead.ReadAhead(Path(path), device, Log(quiet=True))
        try:
            started.data()
        except statefile.StateError as error:
            print("StateError")
print(*sorted({{"torch", "numpy"}} & set(sys.modules)), "done")
"""


def test_threads_import_nothing(file: Path, tmp_path: Path) -> None:
    """Whatever the file: if two threads import a module at once, one of them may see it half initialised."""
    (tmp_path / "utf16").write_bytes((4088).to_bytes(8, "little") + "{}".ljust(2044).encode("utf-16-le"))
    (tmp_path / "text").write_text("text" * 2000)
    content = file.read_bytes()
    (tmp_path / "cut").write_bytes(content[:-1])
    (tmp_path / "other").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code = SPY.format(chunk=SMALL_CHUNK)
    names = ["small", "utf16", "text", "cut", "other", "missing"]
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["StateError"] * 10 + ["done"]


# The disk does not answer: the threads hang in their reads, for which a stand-in is used.
STUCK = """
import os, sys, time
from preheat.weights import readahead, statefile
statefile.CHUNK = {chunk}
statefile.xxh3_64_hexdigest = os.preadv = lambda *_: time.sleep(100)
from pathlib import Path
started = readahead.ReadAhead(Path(sys.argv[1]), sys.argv[2])
started.header()
print("started", flush=True)
{then}
"""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_process_ends_without_it(device: str, file: Path) -> None:
    code = STUCK.format(chunk=SMALL_CHUNK, then="")
    command = [sys.executable, "-c", code, str(file), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("started\n", "")


def test_control_c_ends_the_waiting(file: Path) -> None:
    code = STUCK.format(chunk=SMALL_CHUNK, then="started.data()")
    command = [sys.executable, "-c", code, str(file), "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert process.stderr.read().endswith("KeyboardInterrupt\n")
