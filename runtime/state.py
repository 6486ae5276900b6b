"""The state file: a Whisper network as it is used, in one file that loads in one pass.

    python state.py bake --model DIR --output FILE [--dtype float32|float16|bfloat16]
    python state.py verify FILE

The file is a plain safetensors file (https://huggingface.co/docs/safetensors, "Format"):

    8 bytes      length of the header, unsigned, little endian
    header       JSON, then spaces up to the next multiple of 4096 bytes of the file
    data         the tensors, one after the other without gaps, to the end of the file

What makes it a state file is which tensors it holds and what its `__metadata__` (string → string) says:

    tensors      those of layout.layout(dimensions), in that order: `audio.window` and `audio.filters`
                 (the Hann window and the mel filters) in F32, all others in `dtype`
    format       "preheat-state"
    version      "1"; a reader refuses any other
    dtype        "float32", "float16" or "bfloat16"
    dimensions   JSON object, the fields of layout.Dimensions
    tokenizer    the text of a tokenizer.json
    generation   JSON object: suppress_tokens, begin_suppress_tokens, alignment_heads ([[layer, head], …]),
                 is_multilingual, max_initial_timestamp_index; null where the checkpoint says nothing
    provenance   JSON object: name of the checkpoint's folder, hub_id and revision (null if unknown),
                 sha256 of each file of weights, versions of torch and transformers
    crc32        JSON list: zlib's CRC-32 of each 16 MiB of the data; the last chunk may be shorter
    digest       SHA-256, in hexadecimal, of the whole header as JSON without this entry, serialised with
                 sorted keys, no white space, and everything but ASCII escaped

Every load checks the digest and every checksum: a file that is damaged, cut short or made for another
network raises StateError and is never used. Nothing is allocated on the word of the header; its sizes are
compared with the file's first.
"""

import argparse
import hashlib
import json
import mmap
import os
import sys
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import checkpoint
import torch
from layout import Dimensions, layout
from storage import replacing

FORMAT, VERSION = "preheat-state", "1"
ALIGNMENT = 4096  # bytes: a page, and what O_DIRECT asks for
CHUNK = 16 << 20  # bytes under one checksum
HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors library
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # safetensors' names
CURE = "run state.py bake again"

Entries = dict[str, dict[str, Any]]  # a safetensors header: tensor name → dtype, shape, data_offsets


class StateError(Exception):
    """A state file that cannot be used: one line with the file, what is wrong, and the cure."""


def bake(model: Path, output: Path, dtype: str) -> dict[str, Any]:
    """Pack the checkpoint in the folder `model` into the state file `output`; returns verify's report.

    Raises checkpoint.CheckpointError, and OSError if the file cannot be written; an older one stays then.
    """
    started = time.monotonic()
    log(f"reading {model}")
    packed = checkpoint.pack(model, DTYPES[dtype])
    log(f"writing {output}")
    write(output, packed)
    log("reading it back")
    return verify(output) | {"seconds": round(time.monotonic() - started, 3)}


def write(path: Path, packed: checkpoint.Packed) -> None:
    """Write a state file, whole or not at all. Raises OSError."""
    tensors, metadata = packed
    blobs = [tensor.view(torch.uint8).flatten().numpy().data for tensor in tensors.values()]
    metadata |= {"format": FORMAT, "version": VERSION, "crc32": json.dumps(list(checksums(blobs)))}
    dims = Dimensions.from_json(metadata["dimensions"])
    header: dict[str, Any] = {"__metadata__": metadata, **entries(dims, metadata["dtype"])}
    metadata["digest"] = digest(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for blob in blobs:
            file.write(blob)


def load(path: Path, device: str = "cpu") -> checkpoint.Packed:
    """The tensors and the metadata of a state file, every byte checked. Raises StateError.

    On the CPU the tensors are views of a private memory map of the file: nothing is copied, and the map
    lives as long as they do.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < ALIGNMENT:
                raise ValueError(f"is cut short: it has {size:,} bytes, any has {ALIGNMENT:,} or more")
            # A private map is writable, as torch wants it; the file itself never changes.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        header, start = read_header(view)
        metadata = header.pop("__metadata__")
        check_entries(header, metadata)
        check_data(view[start:], header, json.loads(metadata["crc32"]))
    except OSError as error:
        raise StateError(f"cannot read the state file {path}: {error.strerror}; {CURE}") from error
    except (json.JSONDecodeError, UnicodeError, AttributeError, KeyError, RecursionError, TypeError) as error:
        raise StateError(f"the state file {path} is not one, or its header is damaged; {CURE}") from error
    except ValueError as error:
        raise StateError(f"the state file {path} {error}; {CURE}") from error
    dtypes = {code: DTYPES[name] for name, code in CODES.items()}
    tensors = {}
    for name, entry in header.items():
        dtype, shape, begin = dtypes[entry["dtype"]], entry["shape"], start + entry["data_offsets"][0]
        tensor = torch.frombuffer(view, dtype=dtype, count=prod(shape), offset=begin)
        tensors[name] = tensor.view(shape).to(device)
    return tensors, metadata


def verify(path: Path) -> dict[str, Any]:
    """Check every byte of a state file and report on it, as a dict that goes into JSON. Raises StateError."""
    tensors, metadata = load(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "state": str(path),
        "sha256": sha256,
        "bytes": path.stat().st_size,
        "tensors": len(tensors),
        "dtype": metadata["dtype"],
        "model": json.loads(metadata["provenance"]),
    }


def read_header(view: memoryview) -> tuple[dict[str, Any], int]:
    """The header of a state file, unchanged since it was written, and where the data starts."""
    length = int.from_bytes(view[:8], "little")
    if length > min(HEADER_LIMIT, len(view) - 8):
        raise ValueError(f"claims a header of {length:,} bytes in a file of {len(view):,}")
    header = json.loads(view[8 : 8 + length].tobytes())
    metadata = header["__metadata__"]
    if (found := (metadata["format"], metadata["version"])) != (FORMAT, VERSION):
        raise ValueError(f"is of the format {found}, this program reads {(FORMAT, VERSION)}")
    if metadata["digest"] != (actual := digest(header)):
        raise ValueError(f"has a changed header: its digest is {actual}, it says {metadata['digest']!r}")
    if missing := {"tokenizer", "generation", "provenance"}.difference(metadata):
        raise ValueError(f"says nothing of its {min(missing)}")
    if (8 + length) % ALIGNMENT:
        raise ValueError(f"has its data at byte {8 + length:,}, not at a multiple of {ALIGNMENT:,}")
    return header, 8 + length


def digest(header: dict[str, Any]) -> str:
    """The digest of the format description above."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "digest"}
    text = json.dumps(header | {"__metadata__": metadata}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def entries(dims: Dimensions, dtype: str) -> Entries:
    """What the header says of each tensor of a network with these dimensions."""
    described: Entries = {}
    end = 0
    for name, shape in layout(dims).items():
        kept = "float32" if name.startswith("audio.") else dtype
        begin, end = end, end + prod(shape) * DTYPES[kept].itemsize
        described[name] = {"dtype": CODES[kept], "shape": list(shape), "data_offsets": [begin, end]}
    return described


def check_entries(header: Entries, metadata: dict[str, str]) -> None:
    """Raise ValueError unless the header describes exactly the tensors that the network reads."""
    dims = Dimensions.from_json(metadata["dimensions"])
    if dims.encoder_layers + dims.decoder_layers > len(header):
        raise ValueError(f"has {len(header)} tensors, too few for its dimensions {dims}")
    wanted = entries(dims, metadata["dtype"])
    for name in wanted | header:
        if wanted.get(name) != header.get(name):
            found, needed = header.get(name), wanted.get(name)
            raise ValueError(f"does not fit: {name} is {found} in the file, {needed} in the network")


def check_data(data: memoryview, header: Entries, recorded: list[int]) -> None:
    """Raise ValueError unless the data is as long as the header says and all its checksums are right."""
    end = max(entry["data_offsets"][1] for entry in header.values())
    if len(data) != end:
        raise ValueError(f"has {len(data):,} bytes of tensors, its header says {end:,}")
    chunks = [data[begin : begin + CHUNK] for begin in range(0, end, CHUNK)]
    with ThreadPoolExecutor() as pool:  # zlib releases the interpreter's lock
        actual = list(pool.map(zlib.crc32, chunks))
    if len(recorded) != len(actual):
        raise ValueError(f"has {len(recorded)} checksums for {len(actual)} chunks of data")
    for i, (found, wanted) in enumerate(zip(actual, recorded, strict=True)):
        if found != wanted:
            raise ValueError(f"is damaged: chunk {i} has checksum {found:08x}, its header says {wanted:08x}")


def checksums(blobs: Iterable[memoryview]) -> Iterable[int]:
    """CRC-32 of each CHUNK bytes of the blobs laid end to end."""
    crc, room = 0, CHUNK
    for blob in blobs:
        rest = blob
        while rest:
            piece, rest = rest[:room], rest[room:]
            crc, room = zlib.crc32(piece, crc), room - len(piece)
            if room == 0:
                yield crc
                crc, room = 0, CHUNK
    if room < CHUNK:
        yield crc


def log(text: str) -> None:
    """Progress, on stderr."""
    print(f"state: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="state.py", description="Make or check a state file.")
    commands = parser.add_subparsers(dest="command", required=True)
    baking = commands.add_parser("bake", help="pack a checkpoint into a state file")
    baking.add_argument("--model", type=Path, required=True, metavar="DIR", help="the checkpoint's folder")
    baking.add_argument("--output", type=Path, required=True, metavar="FILE", help="the state file to write")
    baking.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="of the weights (default %(default)s)"
    )
    verifying = commands.add_parser("verify", help="check every byte of a state file")
    verifying.add_argument("file", type=Path, metavar="FILE")
    args = parser.parse_args()
    try:
        report = verify(args.file) if args.command == "verify" else bake(args.model, args.output, args.dtype)
    except (StateError, checkpoint.CheckpointError) as error:
        log(str(error))
        return 1
    except OSError as error:
        log(f"cannot write {args.output}: {error.strerror}; check the folder, its permissions and space")
        return 1
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
