"""The time from the start of a process to its first words: this project and its alternatives.

    .venv/bin/python -m bench.start [--shapes tiny,turbo,large-v3] [--caches warm,dropped] [--runs 5]

transcribes an 8 s recording with each system in turn, in fresh processes of the same interpreter, with random
weights with which all give the same 16 tokens (shapes.py). Prints medians, and writes every run to
build/bench/start.json and the phases of each system's median run to build/bench/start.svg.

Page cache "warm": the model is read before each run, and a first round is not counted. "dropped": the whole
page cache is dropped before each run, including Python and torch, which needs root. In a virtual machine, the
host may still have the files in its own cache.

A shape is kept on disk in four forms (large-v3: 15.5 GB with bfloat16, as CTranslate2 has no bfloat16 on the
CPU, or 22 GB with float32), in the folder of --scratch; nothing is deleted. On a shared machine set
OMP_WAIT_POLICY=passive: threads that spin while waiting take processor time from those that work.
"""

import argparse
import os
import sys

from bench.chart import Panel, draw
from bench.harness import (
    RESULTS,
    ROOT,
    SAMPLES,
    Facts,
    TrialError,
    add_options,
    describe,
    drop_caches,
    machine,
    median,
    names,
    save,
    suitable_dtype,
    table,
    warm,
)
from bench.models import Models
from bench.systems import Job, System, possible

SHAPES = ["tiny", "turbo", "large-v3"]
CACHES = ["warm", "dropped"]
TOKENS = 16
AUDIO = SAMPLES / "short.flac"
SYSTEMS = ["preheat state", "preheat standard", "transformers", "pickled", "faster-whisper"]
HEAD = (
    "shape",
    "cache",
    "system",
    "precision",
    "load",
    "ready",
    "first words",
    "ready, to ours",
    "words, to ours",
)


def compare(shape: str, cache: str, compared: list[System], runs: int, threads: int) -> list[Facts]:
    """Run all systems in turn; returns the counted runs. A system that fails is not run again."""
    counted = []
    failed: set[str] = set()
    first = 0 if cache == "warm" else 1
    for number in range(first, runs + 1):
        for system in compared:
            if system.name in failed:
                continue
            if cache == "warm":
                warm(system.files)
            else:
                drop_caches()
            try:
                facts = system.run(threads)
            except TrialError as failure:
                failed.add(system.name)
                print(f"bench: {shape}: {system.name} failed and is left out: {failure}", file=sys.stderr)
                continue
            print(
                f"bench: {shape}, {cache}, run {number}: {system.name} ready {facts['ready_s']:.2f} s, "
                f"words {facts['total_s']:.2f} s",
                file=sys.stderr,
                flush=True,
            )
            if number:
                counted.append({"shape": shape, "cache": cache, "system": system.name, "run": number} | facts)
    return counted


def groups(runs: list[Facts]) -> dict[tuple[str, str], dict[str, list[Facts]]]:
    """The runs by shape and cache, then by system."""
    found: dict[tuple[str, str], dict[str, list[Facts]]] = {}
    for run in runs:
        found.setdefault((run["shape"], run["cache"]), {}).setdefault(run["system"], []).append(run)
    return found


def rows(runs: list[Facts]) -> list[list[str]]:
    """The rows of the table; ratios refer to the first system."""
    lines = []
    for (shape, cache), by_system in groups(runs).items():
        base = next(iter(by_system.values()))
        for system, mine in by_system.items():
            load, ready, total = (median(mine, key) for key in ("load_s", "ready_s", "total_s"))
            lines.append(
                [shape, cache, system, mine[0]["dtype"]]
                + [f"{seconds:.2f} s" for seconds in (load, ready, total)]
                + [f"{ready / median(base, 'ready_s'):.2f}", f"{total / median(base, 'total_s'):.2f}"]
            )
    return lines


def panels(runs: list[Facts]) -> list[Panel]:
    """The panels of the chart: for each system its median run."""
    found = []
    for (shape, cache), by_system in groups(runs).items():
        bars = []
        for system, mine in by_system.items():
            middle = sorted(mine, key=lambda run: float(run["total_s"]))[len(mine) // 2]
            bars.append((f"{system}, {middle['dtype']}", middle["phases"]))
        found.append(Panel(f"{shape}, page cache {cache}", bars))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Process start to first words.")
    add_options(parser, SYSTEMS)
    parser.add_argument("--shapes", type=names, default=SHAPES, help=f"default: {','.join(SHAPES)}")
    parser.add_argument("--caches", type=names, default=CACHES, help=f"default: {','.join(CACHES)}")
    arguments = parser.parse_args()
    if "dropped" in arguments.caches and os.geteuid():
        parser.error("dropping the page cache takes root; run as root, or with --caches warm")
    dtype = arguments.dtype or suitable_dtype(arguments.device)
    models = Models(arguments.scratch.resolve(), dtype)
    jobs = {shape: Job(models, f"{shape}-{TOKENS}", AUDIO, arguments.device) for shape in arguments.shapes}
    prepared = {shape: possible(job, arguments.only) for shape, job in jobs.items()}
    about = machine(models.folder)
    runs: list[Facts] = []
    for shape, compared in prepared.items():
        for cache in arguments.caches:
            runs += compare(shape, cache, compared, arguments.runs, arguments.threads)
            save("start", {"machine": about, "options": vars(arguments), "runs": runs})
    print(describe(about))
    print(
        f"{arguments.device}, {arguments.threads} threads; {AUDIO.name}, {TOKENS} tokens; median of "
        f"{arguments.runs}; seconds since process start"
    )
    print(table(HEAD, rows(runs), left=4))
    for shape in arguments.shapes:
        texts = {run["text"] for run in runs if run["shape"] == shape}
        print(f"{shape}: {'all say the same' if len(texts) == 1 else 'THE TEXTS DIFFER'}: {sorted(texts)}")
    (RESULTS / "start.svg").write_text(draw(panels(runs)))
    print(f"wrote {RESULTS.relative_to(ROOT)}/start.json and start.svg")


if __name__ == "__main__":
    main()
