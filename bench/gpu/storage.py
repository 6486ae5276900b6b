"""Loading the state file to the device: page cache warm, dropped or bypassed; by threads and slots.

All memory is released between loads, so that each is like the first one of a process.
"""

import mmap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from xxhash import xxh3_64_hexdigest

from bench.gpu import ours
from bench.gpu.cache import drop
from bench.gpu.place import Place, Row
from bench.harness import warm
from preheat.weights import readahead, transfer


@dataclass(frozen=True)
class Case:
    """One combination of settings for a load."""

    cache: str  # "warm" or "dropped"
    threads: int
    slots: int
    direct: bool | None = None  # the parameter of transfer.to_device

    @property
    def way(self) -> str:
        """How the file is read."""
        return {None: "as it comes", True: "O_DIRECT", False: "page cache"}[self.direct]


CASES = [
    Case("warm", 8, 8),
    Case("warm", 8, 16),
    Case("warm", 16, 16),
    Case("dropped", 8, 8),
    Case("dropped", 16, 16),
    Case("dropped", 8, 8, False),
    Case("warm", 8, 8, True),
    Case("warm", 4, 8),
    Case("warm", 16, 32),
    Case("warm", 8, 32),
]
TRIED = [Case("warm", 2, 2), Case("dropped", 2, 2), Case("dropped", 2, 2, True)]


def run(place: Place) -> Iterator[Row]:
    """Measure with the largest model."""
    path = ours.state_file(place, ours.shapes(place)[-1])
    torch.zeros(1, device=place.device)  # creates the CUDA context
    yield from place.absent("loads", "pinned memory and streams")
    best: dict[str, tuple[float, str]] = {}
    for case in place.pick(CASES, TRIED):
        how = case.cache
        if case.cache == "dropped":
            how = f"dropped by {drop(place, path)}"
        else:
            warm([path])
        seconds, data = load(place, path, case)
        rate = len(data) / seconds / 1e9
        row = {"table": "loads", "cache": how, "way": case.way, "threads": case.threads, "slots": case.slots}
        yield row | {"s": seconds, "GB/s": rate}
        finding = f"{seconds:.3f} s with {case.threads} threads, {case.slots} slots, {case.way}"
        best[case.cache] = min(best.get(case.cache, (seconds, finding)), (seconds, finding))
        if case == place.pick(CASES, TRIED)[0] and not arrived(path, data):
            yield {"problem": "what arrived is not what is in the file"}
        del data
        if place.gpu:
            torch.cuda.empty_cache()
    for cache, (_, finding) in best.items():
        yield {"finding": f"{path.stem}, {cache}: {finding}"}
    yield from parts(place, path)


def load(place: Place, path: Path, case: Case) -> tuple[float, Any]:
    """Load once, without reading ahead during the import of torch: seconds, and the data on the device."""
    opened = readahead.ReadAhead(path, "cuda")
    opened.stop()
    opened.header()
    place.settle()
    started = time.perf_counter()
    data = transfer.to_device(
        opened, place.device, threads=case.threads, slots=case.slots, direct=case.direct
    )
    place.settle()
    return time.perf_counter() - started, data


def arrived(path: Path, data: Any) -> bool:
    """Whether the device has the bytes of the file; the checksums only verify them on the host."""
    wanted = torch.frombuffer(readahead.ReadAhead(path, "cpu").data(), dtype=torch.uint8)
    return torch.equal(data.cpu(), wanted)


def parts(place: Place, path: Path) -> Iterator[Row]:
    """The parts of a load, each with one thread, and both ways to get pinned memory."""
    size = min(place.pick(256 << 20, 1 << 20), path.stat().st_size)
    at_home = memoryview(mmap.mmap(-1, size))
    with path.open("rb", buffering=0) as file:
        works: dict[str, Callable[[], object]] = {
            "read": lambda: (file.seek(0), file.readinto(at_home)),
            "hash": lambda: xxh3_64_hexdigest(at_home),
            "pin, by torch": lambda: torch.empty(size, dtype=torch.uint8, pin_memory=place.gpu),
        }
        if place.gpu:
            cuda: Any = torch.cuda  # its functions have no types
            driver = cuda.cudart()
            address = torch.frombuffer(at_home, dtype=torch.uint8).data_ptr()
            check = cuda.check_error
            works["pin, by cudaHostRegister"] = lambda: check(int(driver.cudaHostRegister(address, size, 0)))
            works["let go again"] = lambda: check(int(driver.cudaHostUnregister(address)))
        for name, work in works.items():
            yield {"table": "by one thread", "what": name, "GB/s": size / place.seconds(work) / 1e9}
