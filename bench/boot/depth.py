"""Loading a state file of large-v3's size from a fresh volume, by the number of threads that read it.

    .venv/bin/python -m bench.boot.depth [--latency 20] [--rate 300] [--counts 1,2,4,8,16,32]

puts the file on a volume like that of bench.boot, without the image and its read-ahead, and loads it in fresh
processes, each from a fresh volume, in both ways of the loader: as for the CPU, through the page cache into a
memory map; and as for a GPU, with O_DIRECT into one allocation (ordinary memory here). Prints a table, and
writes build/bench/boot-depth.json. Needs root, and 10 GB for the model and the disk.
"""

import argparse
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.boot.__main__ import mounted, volume
from bench.harness import describe, machine, save, table
from bench.load import numbers
from bench.models import Models
from factory.console import run, say
from factory.local import mounts
from factory.local.basedisk import ROOT_OFFSET
from factory.workspace import SCRATCH, workspace

MODEL = "large-v3-16"
FILE = "state.safetensors"
WAYS = {"cpu": "page cache, map", "gpu": "past the page cache"}


def load(path: Path, way: str, threads: int) -> float:
    """Seconds until all data is loaded and checked, without the import of torch."""
    import torch  # noqa: PLC0415,F401  imported before the clock starts

    from preheat.weights import readahead, transfer  # noqa: PLC0415  after torch

    started = time.perf_counter()
    if way == "cpu":
        readahead.THREADS = threads
        readahead.ReadAhead(path).data()
    else:
        transfer.to_device(readahead.ReadAhead(path, "cuda"), "cpu", threads=threads, slots=threads)
    return time.perf_counter() - started


def make_disk(disk: Path, state: Path) -> None:
    """Write a disk image with the state file on a file system at the same offset as the image's root."""
    size = state.stat().st_size
    with disk.open("wb") as file:
        file.truncate(ROOT_OFFSET + size + (size >> 3))
    blocks = str((disk.stat().st_size - ROOT_OFFSET) >> 12)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", f"offset={ROOT_OFFSET}", disk, blocks)
    with mounts.mounted(disk, disk.with_suffix(".mount"), ROOT_OFFSET) as root:
        run("cp", state, root / FILE)


def trial(disk: Path, way: str, threads: int, latency: float, rate: float) -> dict[str, Any]:
    """One load from a fresh volume."""
    with ExitStack() as stack:
        folder = stack.enter_context(workspace("bench-depth"))
        file, served = stack.enter_context(volume(disk, folder, latency, rate))
        root = stack.enter_context(mounted(file, folder / "disk"))
        command = [sys.executable, "-m", "bench.boot.depth", "--load", str(root / FILE), way, str(threads)]
        seconds = float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    say(f"{WAYS[way]}, {threads} threads: {seconds:.2f} s")
    facts = {"way": way, "threads": threads, "seconds": seconds}
    return facts | {"in_flight": served["most"], "server_cpu_s": served["cpu_s"]}


def main() -> None:
    """Print the table; or, in a process of its own, load once."""
    parser = argparse.ArgumentParser(description="Loading a state file from a volume that is slow at first.")
    add = parser.add_argument
    add("--latency", type=float, default=20, help="ms for the first touch of a block (default %(default)s)")
    add("--rate", type=float, default=300, help="MiB/s at which blocks arrive (default %(default)s)")
    add("--counts", type=numbers, default=[1, 2, 4, 8, 16, 32], help="of threads (default %(default)s)")
    add("--scratch", type=Path, default=Path("build/bench"), help="for the model (default %(default)s)")
    add("--load", nargs=3, metavar=("FILE", "WAY", "THREADS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        path, way, threads = given.load
        print(load(Path(path), way, int(threads)))
        return
    models = Models(given.scratch.resolve(), "bfloat16")
    state = models.state(MODEL)
    host = machine(models.folder)
    with workspace("bench-depth-disk") as folder:
        disk = folder / SCRATCH / "disk.raw"
        make_disk(disk, state)
        runs = [trial(disk, way, n, given.latency, given.rate) for way in WAYS for n in given.counts]
    least = state.stat().st_size / given.rate / 2**20
    rows = [
        [
            WAYS[done["way"]],
            str(done["threads"]),
            f"{done['seconds']:.1f} s",
            f"{done['seconds'] / least:.2f}",
            str(done["in_flight"]),
            f"{done['server_cpu_s']:.1f} s",
        ]
        for done in runs
    ]
    print(describe(host))
    print(
        f"first touch {given.latency:g} ms, {given.rate:g} MiB/s; {MODEL}, {state.stat().st_size}"
        f" bytes, {least:.1f} s at that rate; page cache empty; one load each"
    )
    head = ("loader", "threads", "loaded after", "to that", "blocks in flight", "server's CPU")
    print(table(head, rows, left=1))
    save("boot-depth", {"machine": host, "latency_ms": given.latency, "rate_mib_s": given.rate, "runs": runs})


if __name__ == "__main__":
    main()
