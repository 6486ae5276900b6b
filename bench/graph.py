"""What a CUDA graph gains: a decode step replayed as one, against the same launched operation by operation.

    .venv/bin/python -m bench.graph [--shapes turbo,large-v3] [--windows 1,8,16] [--runs 5]

decodes windows of 100 tokens (shapes.py: random weights, which say them whatever is heard) both ways in turn,
in one process: `eager` is what is done where nothing can be captured. The time is from the features of the
windows to their tokens; a first round, which captures, is not counted. Prints medians, and writes every run
to build/bench/graph.json. It takes an NVIDIA GPU, and says so where there is none.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.forms import Models
from bench.load import numbers
from bench.peers import settle
from bench.trials import (
    RESULTS,
    ROOT,
    Facts,
    describe,
    machine,
    median,
    names,
    save,
    suitable_dtype,
    table,
)

DEVICE = "cuda"
WAYS = ["eager", "graph"]
TOKENS = 100  # in a window
HEAD = (
    "shape",
    "windows",
    "precision",
    "eager",
    "graph",
    "eager, tokens/s",
    "graph, tokens/s",
    "eager, to graph",
)


def decoders(state: Path, device: str) -> dict[str, Any]:
    """One decoder for each way, over the same network; Any, for runtime/ is found by its path only."""
    sys.path.insert(0, str(ROOT / "runtime"))
    modules = ("state", "whisper", "layout", "vocabulary", "decoding", "timing")
    loader, whisper, layout, vocabulary, decoding, timing = map(importlib.import_module, modules)
    tensors, metadata = loader.load(state, device)
    network = whisper.Whisper(tensors, layout.Dimensions.from_json(metadata["dimensions"]))
    log = timing.Log(quiet=False)  # which tells if capture fails
    made = {way: decoding.Decoder(network, vocabulary.Vocabulary(metadata), log=log) for way in WAYS}
    made["eager"].graphs.working = False
    return made


def compare(made: dict[str, Any], windows: int, runs: int) -> Iterator[Facts]:
    """Every counted run, in turn."""
    network = made["graph"].network
    shape = (windows, network.dims.max_source_positions, network.dims.d_model)
    features = torch.randn(shape, device=network.device).to(network.dtype)
    for number in range(runs + 1):
        for way, decoder in made.items():
            settle(network.device.type)
            started = time.monotonic()
            results = decoder.decode_once(features, decoder.prompt("en", []))
            seconds = time.monotonic() - started
            if number:
                tokens = [result.tokens for result in results]
                captured = all(batch.step.graph for batch in decoder.kept.values())
                yield {"way": way, "run": number, "seconds": seconds, "tokens": tokens, "captured": captured}
    for decoder in made.values():
        decoder.forget()


def row(runs: list[Facts]) -> list[str]:
    """The table's line for one shape and number of windows."""
    by_way = {way: [run for run in runs if run["way"] == way] for way in WAYS}
    seconds = {way: median(mine, "seconds") for way, mine in by_way.items()}
    tokens = sum(map(len, runs[0]["tokens"]))
    line = [runs[0]["shape"], str(runs[0]["windows"]), runs[0]["dtype"]]
    line += [f"{1000 * seconds[way]:.1f} ms" for way in WAYS]
    line += [f"{tokens / seconds[way]:,.0f}" for way in WAYS]
    return [*line, f"{seconds['eager'] / seconds['graph']:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Decoding by CUDA graph and without.")
    add = parser.add_argument
    add("--shapes", type=names, default=["turbo", "large-v3"], help="default: turbo,large-v3")
    add("--windows", type=numbers, default=[1, 8, 16], help="at a time, default: 1,8,16")
    add("--runs", type=int, default=5, help="counted runs of each way (default %(default)s)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default=suitable_dtype(DEVICE))
    add("--scratch", type=Path, default=RESULTS / "models", help="models are made there")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("only an NVIDIA GPU can capture a graph, and torch finds none here")
    models = Models(arguments.scratch.resolve(), arguments.dtype)
    about = machine(models.folder)
    runs: list[Facts] = []
    lines = []
    for shape in arguments.shapes:
        made = decoders(models.state(f"{shape}-{TOKENS}"), DEVICE)
        for windows in arguments.windows:
            same = {"shape": shape, "windows": windows, "dtype": models.dtype}
            mine = [same | run for run in compare(made, windows, arguments.runs)]
            runs += mine
            lines.append(row(mine))
    save("graph", {"machine": about, "options": vars(arguments), "runs": runs})
    print(describe(about))
    print(f"{TOKENS} tokens a window, greedy; median of {arguments.runs}")
    print(table(HEAD, lines, left=1))
    if any(run["tokens"] != runs[0]["tokens"][:1] * run["windows"] for run in runs):
        print("THE TOKENS DIFFER")
    if not all(run["captured"] for run in runs if run["way"] == "graph"):
        print("NOT ALL GRAPHS WERE CAPTURED: see above why")
    print(f"wrote {(RESULTS / 'graph.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
