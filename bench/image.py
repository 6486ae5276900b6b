"""The local image from a user's view: the time to build it, and the time until it is ready to transcribe.

    .venv/bin/python -m bench.image [--build] [--runs 5]

boots the finished image and runs `transcribe` on its sample in fresh processes, alternating between both ways
of loading; prints medians and the ratio. The page cache is warm: the first run of each way is not counted.
With --build the image is built first, and timed.
"""

import argparse
import json
import os
import statistics
import time

from bench.harness import processor
from factory.local.image import ARTIFACT, image
from factory.local.machine import booted
from factory.ssh import Machine

WAYS = ("state", "standard")
FIGURES = {
    "load_s": "weights into memory",
    "ready_s": "process start to model ready",
    "total_s": "process start to words of the 8 s sample",
}


def measure(machine: Machine, way: str) -> dict[str, float]:
    """Run one fresh process on the machine; the timings of `--timings=json`."""
    command = f"transcribe --load {way} --timings=json /opt/transcribe/sample.flac 2>&1 >/dev/null"
    timings: dict[str, float] = json.loads(machine.run(command).splitlines()[-1])
    return timings


def build() -> float:
    """Rebuild the image; seconds, without the packages and tools that `make setup` installs."""
    ARTIFACT.stamp.unlink(missing_ok=True)
    started = time.monotonic()
    image()
    return time.monotonic() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Build time and start-up of the local image.")
    parser.add_argument("--build", action="store_true", help="build the image first, and time it")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each way (default %(default)s)")
    arguments = parser.parse_args()
    seconds = build() if arguments.build else None
    record = json.loads(ARTIFACT.record.read_text())
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with booted(ARTIFACT.raw, "bench", keep=False) as machine:
        for number in range(arguments.runs + 1):
            for way in WAYS:
                timings = measure(machine, way)
                if number:
                    runs[way].append(timings)
    print(
        f"{os.cpu_count()} cores {processor()}; {record['model']['name']}, {record['state']['dtype']}, "
        f"torch {record['torch']}; page cache warm; median of {arguments.runs}"
    )
    if seconds is not None:
        size = ARTIFACT.raw.stat().st_blocks * 512 / 1e9
        print(f"{'build, packages from the registries':44} {seconds:8.1f} s   {size:.1f} GB on disk")
    print(f"{'':44} {'state':>10} {'standard':>10} {'ratio':>8}")
    for key, name in FIGURES.items():
        state, standard = (statistics.median(run[key] for run in runs[way]) for way in WAYS)
        print(f"{name:44} {state:8.3f} s {standard:8.3f} s {standard / state:7.1f} times")


if __name__ == "__main__":
    main()
