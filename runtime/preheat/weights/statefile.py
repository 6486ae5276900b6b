"""The state file as a format: what is in it, its header, its checksums. Nothing here needs torch.

A state file is a plain safetensors file (https://huggingface.co/docs/safetensors, "Format"):

    8 bytes      length of the header, unsigned, little endian
    header       JSON, then spaces up to the next multiple of 4096 bytes of the file
    data         the tensors, one after the other without gaps, to the end of the file

What makes it a state file is which tensors it holds and what its `__metadata__` (string → string) says:

    tensors      those of layout.layout(dimensions), in that order: `audio.window` and `audio.filters`
                 (the Hann window and the mel filters) in F32, all others in `dtype`
    format       "preheat-state"
    version      "2"; a reader refuses any other
    dtype        "float32", "float16" or "bfloat16"
    dimensions   JSON object, the fields of layout.Dimensions
    tokens       JSON list: the tokens by id, as the tokenizer writes them; all that decoding needs
    tokenizer    the text of a tokenizer.json, to encode with
    generation   JSON object: suppress_tokens, begin_suppress_tokens, alignment_heads ([[layer, head], …]),
                 is_multilingual, max_initial_timestamp_index; null where the checkpoint says nothing
    provenance   JSON object: name of the checkpoint's folder, hub_id and revision (null if unknown),
                 sha256 of each file of weights, versions of torch and transformers
    xxh3_64      JSON list: XXH3-64 (seed 0) of each 16 MiB of the data, as 16 hexadecimal digits, the most
                 significant first; the last chunk may be shorter
    digest       SHA-256, in hexadecimal, of the header's bytes, spaces included, with these 64 digits as 0

Every load checks the digest and every checksum: a file that is damaged, truncated or made for another
network raises StateError and is never used. The header's sizes are compared with the file's before anything
is allocated.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from xxhash import xxh3_64, xxh3_64_hexdigest

from preheat.model.layout import Dimensions, layout

FORMAT, VERSION = "preheat-state", "2"
ALIGNMENT = 4096  # bytes: a page, and what O_DIRECT asks for
CHUNK = 16 << 20  # bytes under one checksum, a multiple of ALIGNMENT
HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors library
DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}  # safetensors' name, bytes
CURE = "run state.py bake again"
# Errors from reading a file that is not a state file.
UNREADABLE = (json.JSONDecodeError, UnicodeError, AttributeError, KeyError, RecursionError, TypeError)

Entries = dict[str, dict[str, Any]]  # a safetensors header: tensor name → dtype, shape, data_offsets


class StateError(Exception):
    """A state file that cannot be used: one line with the file, what is wrong, and the cure."""


@dataclass(frozen=True)
class Header:
    """The header of a state file, checked against the file's length and what the network reads."""

    entries: Entries
    metadata: dict[str, str]
    checksums: list[str]  # of the chunks
    start: int  # where in the file the data begins: bytes, a multiple of ALIGNMENT
    size: int  # bytes of data

    def chunk(self, i: int) -> slice:
        """The range of chunk i in the data."""
        return slice(i * CHUNK, min((i + 1) * CHUNK, self.size))

    def check(self, i: int, content: memoryview) -> None:
        """Raise ValueError if the content of chunk i does not match its checksum."""
        if (found := xxh3_64_hexdigest(content)) != self.checksums[i]:
            raise ValueError(
                f"is damaged: chunk {i} has checksum {found}, its header says {self.checksums[i]}"
            )


class naming:  # noqa: N801  used as a function is, like contextlib.suppress
    """Turn errors in the block, from reading a state file, into StateError with the file's path.

    Except for lack of memory, which is not the file's fault: MemoryError and OSError with ENOMEM go on.

    Not a contextlib.contextmanager: in Python 3.12 that keeps the error, and through its traceback all that
    the block has allocated, until the garbage collector runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Raise StateError, or let the block's error go on."""
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise StateError(f"cannot read the state file {self.path}: {error.strerror}; {CURE}") from error
        if isinstance(error, UNREADABLE):
            raise StateError(
                f"the state file {self.path} is not one, or its header is damaged; {CURE}"
            ) from error
        if isinstance(error, ValueError):  # one short line, even if it quotes the file
            reason = " ".join(str(error).split())[:1000]
            raise StateError(f"the state file {self.path} {reason}; {CURE}") from error


def read_header(file: BinaryIO) -> Header:
    """The header of an open state file. Raises the errors that `naming` handles."""
    size = os.fstat(file.fileno()).st_size
    if size < ALIGNMENT:
        raise ValueError(f"is cut short: it has {size:,} bytes, any has {ALIGNMENT:,} or more")
    length = int.from_bytes(file.read(8), "little")
    if length > min(HEADER_LIMIT, size - 8):
        raise ValueError(f"claims a header of {length:,} bytes in a file of {size:,}")
    raw = file.read(length)
    try:
        header = json.loads(raw.decode())  # decoded here: for UTF-16 or UTF-32, json would import a codec
    except ValueError as error:  # includes numbers with more digits than Python accepts
        raise TypeError("not JSON") from error
    metadata = header.pop("__metadata__")
    if (found := (metadata["format"], metadata["version"])) != (FORMAT, VERSION):
        raise ValueError(f"is of the format {found}, this program reads {(FORMAT, VERSION)}")
    if metadata["digest"] != (actual := digest(raw, metadata["digest"])):
        raise ValueError(f"has a changed header: its digest is {actual}, it says {metadata['digest']!r}")
    if wrong := [key for key in ("tokens", "tokenizer", "generation", "provenance") if key not in metadata]:
        raise ValueError(f"lacks its {wrong[0]}")
    if wrong := [key for key, value in metadata.items() if not isinstance(value, str)]:
        raise ValueError(f"has {wrong[0]} that is not text")
    for key in ("generation", "provenance"):
        if not isinstance(json.loads(metadata[key]), dict):
            raise ValueError(f"has {key} that is not a JSON object")
    if (8 + length) % ALIGNMENT:
        raise ValueError(f"has its data at byte {8 + length:,}, not at a multiple of {ALIGNMENT:,}")
    entries = network_entries(header, metadata)
    end = max(entry["data_offsets"][1] for entry in entries.values())
    if size - 8 - length != end:
        raise ValueError(f"has {size - 8 - length:,} bytes of tensors, its header says {end:,}")
    checksums = json.loads(metadata["xxh3_64"])
    if len(checksums) != (chunks := -(-end // CHUNK)):
        raise ValueError(f"has {len(checksums)} checksums for {chunks} chunks of data")
    return Header(entries, metadata, checksums, 8 + length, end)


def network_entries(found: Entries, metadata: dict[str, str]) -> Entries:
    """The tensors that the network reads, which the header must describe exactly. Raises ValueError.

    Returns those of the network, not the equal ones in the header: order may differ there, or 4096.0 be 4096.
    """
    dims, dtype = Dimensions.from_json(metadata["dimensions"]), metadata["dtype"]
    if dtype not in DTYPES:
        raise ValueError(f"has dtype {dtype!r}, this program supports {', '.join(DTYPES)}")
    if dims.encoder_layers + dims.decoder_layers > len(found):
        raise ValueError(f"has {len(found)} tensors, too few for its dimensions {dims}")
    wanted = describe(dims, dtype)
    for name in wanted | found:
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"does not fit: {name} is {found.get(name)} in the file, {wanted.get(name)} in the network"
            )
    return wanted


def describe(dims: Dimensions, dtype: str) -> Entries:
    """The header's entry of each tensor of a network with these dimensions."""
    described: Entries = {}
    end = 0
    for name, shape in layout(dims).items():
        code, itemsize = DTYPES["float32" if name.startswith("audio.") else dtype]
        begin, end = end, end + prod(shape) * itemsize
        described[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    return described


def digest(raw: bytes, stated: str) -> str:
    """The digest, as described at the top, of a header that contains `stated` as its digest."""
    return hashlib.sha256(raw.replace(stated.encode(), b"0" * 64, 1)).hexdigest()


def checksums(blobs: Iterable[memoryview]) -> Iterator[str]:
    """XXH3-64 of each CHUNK bytes of the blobs laid end to end."""
    hashed, room = xxh3_64(), CHUNK
    for blob in blobs:
        rest = blob
        while rest:
            piece, rest = rest[:room], rest[room:]
            hashed.update(piece)
            room -= len(piece)
            if room == 0:
                yield hashed.hexdigest()
                hashed, room = xxh3_64(), CHUNK
    if room < CHUNK:
        yield hashed.hexdigest()
