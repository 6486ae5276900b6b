"""The time to load a file of weights as tensors: the state file's loader and others, by number of threads.

    .venv/bin/python -m bench.load [--shape large-v3] [--caches warm,dropped] [--counts 1,2,4] [--runs 5]

loads the same weights with each loader in turn, in fresh processes; loaders.py says what is timed. Prints
medians, and writes every run to build/bench/load.json.

N threads: the process is confined to N processors (to all, if there are fewer), and libraries that read with
several threads are told to use N; those that read with one are only run with all processors. "call" is the
time until the function returned; "usable" includes reading every byte of the tensors once afterwards. Page
cache "warm": the file is read before each run, and the first round is not counted; "dropped": the whole page
cache is dropped before each run, which needs root. The pickled module is transformers' whole model object,
saved by torch.save.
"""

import argparse
import os
import sys
from pathlib import Path

from bench.harness import (
    RESULTS,
    ROOT,
    Facts,
    TrialError,
    add_options,
    cores,
    describe,
    drop_caches,
    machine,
    measure,
    median,
    names,
    save,
    table,
    warm,
)
from bench.models import Models

THREADED = ("state", "fastsafetensors", "runai")
TITLES = {
    "state": "preheat state.load, checksums compared",
    "safetensors": "safetensors load_file",
    "tensors": "torch.load, state dict, mmap",
    "fastsafetensors": "fastsafetensors",
    "runai": "runai-model-streamer",
    "pickled": "torch.load, pickled module",
}
TOKENS = 16  # in the model's name, the same as in start.py, to share the files
BASE = "pickled"  # the loader that ratios refer to
HEAD = (
    "cache",
    "loader",
    "threads",
    "call",
    "usable",
    "usable, GB/s",
    "call, times sooner",
    "usable, times sooner",
)


def counts() -> list[int]:
    """1, 2, 4, … up to the number of processors, and one step beyond, which may suit the disk better."""
    found = [1]
    while found[-1] <= cores():
        found.append(2 * found[-1])
    return found


def numbers(text: str) -> list[int]:
    """The value of --counts."""
    return [int(word) for word in text.split(",")]


def compare(args: argparse.Namespace, files: dict[str, Path], cache: str) -> list[Facts]:
    """Run all loaders in turn; returns the counted runs. A loader that fails is not run again."""
    trials = [(name, count) for name in files for count in (args.counts if name in THREADED else [cores()])]
    counted = []
    for number in range(0 if cache == "warm" else 1, args.runs + 1):
        for name, count in list(trials):
            if cache == "warm":
                warm([files[name]])
            else:
                drop_caches()
            command = ["-m", "bench.loaders", name, str(files[name])]
            command += ["--device", args.device, "--threads", str(count)]
            try:
                _, facts = measure(command, count)
            except TrialError as failure:
                trials.remove((name, count))
                print(f"bench: {name} failed and is left out: {failure}", file=sys.stderr)
                continue
            print(
                f"bench: {cache}, run {number}: {name}, {count} threads, {facts['touched_s']:.2f} s",
                file=sys.stderr,
                flush=True,
            )
            if number:
                counted.append({"cache": cache, "loader": name, "threads": count, "run": number} | facts)
    return counted


def rows(runs: list[Facts]) -> list[list[str]]:
    """The rows of the table."""
    groups: dict[tuple[str, str, int], list[Facts]] = {}
    for run in runs:
        groups.setdefault((run["cache"], run["loader"], run["threads"]), []).append(run)
    lines = []
    for (cache, loader, threads), mine in groups.items():
        base = next((every for key, every in groups.items() if key[:2] == (cache, BASE)), mine)
        call, usable = median(mine, "call_s"), median(mine, "touched_s")
        lines.append([cache, TITLES[loader], str(threads), f"{call:.3f} s", f"{usable:.3f} s"])
        lines[-1].append(f"{mine[0]['bytes'] / 1e9 / usable:.2f}")
        lines[-1] += [
            f"{median(base, key) / ours:.1f}" for key, ours in (("call_s", call), ("touched_s", usable))
        ]
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed of loading weights.")
    add_options(parser, list(TITLES))
    add = parser.add_argument
    add("--shape", default="large-v3", help="tiny, turbo or large-v3 (default %(default)s)")
    add("--caches", type=names, default=["warm", "dropped"], help="default: warm,dropped")
    add("--counts", type=numbers, default=counts(), help=f"of threads, default: {counts()}")
    arguments = parser.parse_args()
    if "dropped" in arguments.caches and os.geteuid():
        parser.error("dropping the page cache takes root; run as root, or with --caches warm")
    gpu = arguments.device == "cuda"
    # Nothing is computed, so a 16-bit type is fine on any processor.
    models = Models(arguments.scratch.resolve(), arguments.dtype or ("float16" if gpu else "bfloat16"))
    model = f"{arguments.shape}-{TOKENS}"
    files = {}
    for loader in arguments.only:
        files[loader] = models.other(loader, model) if loader in ("tensors", BASE) else models.state(model)
    about = machine(models.folder)
    runs: list[Facts] = []
    for cache in arguments.caches:
        runs += compare(arguments, files, cache)
    save("load", {"machine": about, "options": vars(arguments), "runs": runs})
    print(describe(about))
    print(
        f"to {arguments.device}; {model}, {models.dtype}, {runs[0]['bytes'] / 1e9:.2f} GB of tensors; "
        f"median of {arguments.runs}; ratios to the pickled module"
    )
    print(table(HEAD, rows(runs), left=2))
    print(f"wrote {(RESULTS / 'load.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
