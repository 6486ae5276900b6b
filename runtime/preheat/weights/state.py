"""Writes, loads and verifies state files: a Whisper network in one file that loads in one pass.

    python state.py bake --model DIR --output FILE [--dtype auto|float32|float16|bfloat16]
    python state.py verify FILE

The format is described in statefile.py; readahead.py and transfer.py read it.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from preheat.model.layout import Dimensions
from preheat.model.precision import best_dtype
from preheat.storage import check_folder, remove_leftovers, replacing
from preheat.timing import CONTROLS
from preheat.weights import checkpoint, statefile, transfer
from preheat.weights.readahead import ReadAhead
from preheat.weights.statefile import FORMAT, VERSION

FAILED, INTERRUPTED = 1, 130  # exit codes


def bake(model: Path, output: Path, dtype: str) -> dict[str, Any]:
    """Pack the checkpoint in the folder `model` into the state file `output`; returns verify's report.

    Raises checkpoint.CheckpointError, and OSError if the file cannot be written; an older file then remains.
    """
    started = time.monotonic()
    check_folder(output.parent)
    log(f"reading {model}")
    if dtype == "auto":
        dtype = best_dtype("cuda" if torch.cuda.is_available() else "cpu")
    packed = checkpoint.pack(model, getattr(torch, dtype))
    log(f"writing {output}")
    write(output, packed)
    log("verifying the file")
    return verify(output) | {"seconds": round(time.monotonic() - started, 3)}


def write(path: Path, packed: checkpoint.Packed) -> None:
    """Write a state file, whole or not at all. Raises OSError."""
    tensors, contents = packed
    blobs = [tensor.view(torch.uint8).flatten().numpy().data for tensor in tensors.values()]
    none = "0" * 64
    metadata = contents | {"format": FORMAT, "version": VERSION, "digest": none}
    metadata["xxh3_64"] = json.dumps(list(statefile.checksums(blobs)))
    dims = Dimensions.from_json(metadata["dimensions"])
    header = {"__metadata__": metadata, **statefile.describe(dims, metadata["dtype"])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % statefile.ALIGNMENT)
    entry = b'"digest":"%s"'  # unique: inside a metadata string the quotes would be escaped
    digest = statefile.digest(text, none)
    text = text.replace(entry % none.encode(), entry % digest.encode())
    remove_leftovers(path)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for blob in blobs:
            file.write(blob)


def load(reading: ReadAhead, device: str = "cpu") -> checkpoint.Packed:
    """The tensors and the metadata of a state file, every byte checked. Raises StateError.

    On the CPU the tensors are views of a private memory map of the file, without a copy; the map lives as
    long as they do. On a GPU they are views of one allocation.
    """
    header = reading.header()
    if torch.device(device).type == "cpu":
        data = torch.frombuffer(reading.data(), dtype=torch.uint8)
    else:
        data = transfer.to_device(reading, device)
    return views(data, header.entries), header.metadata


def views(data: torch.Tensor, entries: statefile.Entries) -> dict[str, torch.Tensor]:
    """The tensors in the [bytes] uint8 `data` of a state file, which lie there without gaps."""
    dtypes = {code: getattr(torch, name) for name, (code, _) in statefile.DTYPES.items()}
    sizes = [entry["data_offsets"][1] - entry["data_offsets"][0] for entry in entries.values()]
    parts: tuple[Any, ...] = torch.split_with_sizes(data, sizes)
    return {
        name: part.view(dtypes[entry["dtype"]]).view(entry["shape"])
        for (name, entry), part in zip(entries.items(), parts, strict=True)
    }


def verify(path: Path) -> dict[str, Any]:
    """Check every byte of a state file and report on it, as a dict that goes into JSON. Raises StateError."""
    reading = ReadAhead(path)
    tensors, metadata = load(reading)
    with reading.naming, path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    return {
        "state": str(path),
        "sha256": sha256,
        "bytes": size,
        "tensors": len(tensors),
        "dtype": metadata["dtype"],
        "model": json.loads(metadata["provenance"]),
    }


def log(text: str) -> None:
    """Print progress on stderr."""
    print(f"state: {text.translate(CONTROLS)}", file=sys.stderr, flush=True)
