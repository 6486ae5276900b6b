"""State files of the real shapes with random weights (see bench/shapes.py), made on the device."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import torch
import transformers
from transformers import WhisperFeatureExtractor

from bench import shapes
from bench.gpu import ours, prepare
from bench.gpu.place import Place, Row
from bench.words import Words
from preheat.model.layout import Dimensions
from preheat.weights import checkpoint, state


def run(place: Place) -> Iterator[Row]:
    """Make the state files that do not exist yet."""
    for shape in ours.shapes(place):
        path, started = ours.state_file(place, shape), time.perf_counter()
        if not path.exists():
            write(place, shapes.SHAPES[shape], path)
        gb, seconds = path.stat().st_size / 1e9, time.perf_counter() - started
        row = {"table": "state files", "model": shape, "GB": gb, "made in, s": seconds}
        yield row | {"finding": f"{shape}: {gb:.2f} GB made in {seconds:.1f} s"}


def write(place: Place, shape: shapes.Shape, path: Path) -> None:
    """Make a state file, as `state.py bake` would from a checkpoint."""
    words = Words.read(prepare.WORDS) if prepare.WORDS.exists() else Words.make()
    path.parent.mkdir(parents=True, exist_ok=True)
    settings, source = shapes.network(shape, ours.tokens(place), words, place.device)
    dims = Dimensions(**{field.name: getattr(settings, field.name) for field in fields(Dimensions)})
    extractor = WhisperFeatureExtractor(feature_size=shape.mel_bins)  # type: ignore[no-untyped-call]  # transformers'
    with torch.device(place.device):  # `fuse` creates missing tensors there
        packed = checkpoint.fuse(source, extractor, dims, place.dtype)
    said = shapes.generation(shape, words)
    metadata = {
        "dtype": str(place.dtype).removeprefix("torch."),
        "dimensions": json.dumps(asdict(dims)),
        "tokens": json.dumps(checkpoint.names(words.ids)),
        "tokenizer": words.tokenizer,
        "generation": json.dumps({name: getattr(said, name, None) for name in checkpoint.GENERATION}),
        "provenance": json.dumps({"name": path.stem, "transformers": transformers.__version__}),
    }
    state.write(path, ({name: tensor.cpu() for name, tensor in packed.items()}, metadata))
