"""Times one way to load a file of weights, in a process that does nothing else.

    .venv/bin/python -m bench.loaders safetensors FILE --device cpu --threads 2

prints on stderr, as JSON, the time of the call, and the time until every byte had been read once after it:
a memory map is made at once, but its data is not in memory yet. Modules are imported before the clock starts.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.device import settle

WORD = 8  # bytes: tensors are summed as int64 if size and alignment allow it

Load = Callable[[], Iterable[Tensor]]  # yields tensors, whose storage must stay alive as long as they do

# ruff: noqa: PLC0415  each loader imports only its own library


def state(path: Path, device: str, threads: int) -> Load:
    """The state file's own loader, which also verifies every checksum."""
    from preheat.weights import state, transfer
    from preheat.weights.readahead import ReadAhead

    to_device: Any = transfer.to_device
    to_device.__kwdefaults__["threads"] = threads  # state.load does not pass the number on

    def load() -> Iterable[Tensor]:
        tensors, _ = state.load(ReadAhead(path, device), device)
        return list(tensors.values())

    return load


def safetensors(path: Path, device: str, _threads: int) -> Load:
    """safetensors' own loader: a memory map on the CPU."""
    from safetensors.torch import load_file

    return lambda: load_file(path, device=device).values()


def tensors(path: Path, device: str, _threads: int) -> Load:
    """torch.load of a state dict, memory-mapped."""
    return lambda: torch.load(path, map_location=device, mmap=True, weights_only=True).values()


def pickled(path: Path, device: str, _threads: int) -> Load:
    """torch.load of transformers' whole model object."""
    importlib.import_module("transformers.models.whisper.modeling_whisper")

    def load() -> Iterable[Tensor]:
        model = torch.load(path, map_location=device, weights_only=False)
        return [*model.parameters(), *model.buffers()]  # a shared tensor is listed once

    return load


def fastsafetensors(path: Path, device: str, threads: int) -> Load:
    """fastsafetensors with several threads, without GPUDirect Storage, which few machines have."""
    library: Any = importlib.import_module("fastsafetensors")  # it has no types
    loader = library.SafeTensorsFileLoader(
        library.SingleGroup(),
        device="cuda:0" if device == "cuda" else device,
        max_threads=threads,
        nogds=True,
    )

    def load() -> Iterable[Tensor]:
        loader.add_filenames({0: [str(path)]})
        buffers = loader.copy_files_to_device()
        return [buffers.get_tensor(name) for name in loader.get_keys()]

    return load


def runai(path: Path, device: str, _threads: int) -> Load:
    """runai_model_streamer, with RUNAI_STREAMER_CONCURRENCY threads (harness.call sets it)."""
    library: Any = importlib.import_module("runai_model_streamer")  # it has no types

    def load() -> Iterable[Tensor]:
        with library.SafetensorsStreamer() as streamer:
            streamer.stream_file(str(path), device="cuda:0" if device == "cuda" else device)
            return [tensor for _, tensor in streamer.get_tensors()]

    return load


LOADERS: dict[str, Callable[[Path, str, int], Load]] = {
    "state": state,
    "safetensors": safetensors,
    "tensors": tensors,
    "fastsafetensors": fastsafetensors,
    "runai": runai,
    "pickled": pickled,
}


@torch.inference_mode()
def touch(every: Iterable[Tensor]) -> int:
    """Read every byte once; returns the number of bytes."""
    count = 0
    for tensor in every:
        flat = tensor.detach().reshape(-1).view(torch.uint8)
        if flat.numel() % WORD == 0 and flat.data_ptr() % WORD == 0 and flat.storage_offset() % WORD == 0:
            flat = flat.view(torch.int64)
        flat.sum()
        count += tensor.nbytes
    return count


def main() -> None:
    """Time one loader."""
    parser = argparse.ArgumentParser(description="Time one way to load a file of weights.")
    parser.add_argument("loader", choices=list(LOADERS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[: arguments.threads])  # later threads inherit it
    torch.set_num_threads(min(arguments.threads, len(available)))
    if arguments.device == "cuda":
        torch.zeros(1, device="cuda").sum().item()  # creates the CUDA context and loads the kernels
    load = LOADERS[arguments.loader](arguments.file, arguments.device, arguments.threads)
    settle(arguments.device)
    started = time.perf_counter()
    every = load()
    settle(arguments.device)
    loaded = time.perf_counter()
    count = touch(every)
    settle(arguments.device)
    touched = time.perf_counter()
    facts = {"call_s": loaded - started, "touched_s": touched - started, "bytes": count}
    print(json.dumps(facts), file=sys.stderr)


if __name__ == "__main__":
    main()
