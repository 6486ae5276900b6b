"""Builds and edits state files from the format's description alone, for tests that need unusual ones."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from preheat.model.layout import Dimensions
from preheat.weights import state, statefile
from preheat.weights.checkpoint import Packed

DIMENSIONS = Dimensions(
    num_mel_bins=8,
    d_model=64,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=128,
    max_source_positions=50,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=128,
    max_target_positions=64,
    vocab_size=301,
)
SMALL_CHUNK = 64 << 10  # bytes: with it, the small model's file has several chunks and an odd tail


def small(path: Path, dtype: str = "float32", dims: Dimensions = DIMENSIONS) -> Packed:
    """Write a state file of random numbers, about half a megabyte; returns what is in it."""
    torch.manual_seed(7)
    entries = statefile.describe(dims, dtype)
    data = torch.randint(0, 256, (list(entries.values())[-1]["data_offsets"][1],), dtype=torch.uint8)
    metadata = {
        "dtype": dtype,
        "dimensions": json.dumps(vars(dims)),
        "tokens": json.dumps(["é", "alpha"]),
        "tokenizer": json.dumps({"model": {"vocab": {"é": 0, "alpha": 1}}}),
        "generation": json.dumps({"is_multilingual": True}),
        "provenance": json.dumps({"name": "small"}),
    }
    packed = state.views(data, entries), metadata
    state.write(path, packed)
    return packed


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a state file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: dict[str, Any], data: bytes, *, sign: bool = True, page: int = 4096) -> bytes:
    """A state file with any header; `sign` makes its digest right, if it has one."""
    metadata = header.get("__metadata__")
    sign = sign and isinstance(metadata, dict) and "digest" in metadata
    if sign:
        header = header | {"__metadata__": header["__metadata__"] | {"digest": "0" * 64}}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % page)
    if sign:
        digest = hashlib.sha256(text).hexdigest()
        entry = b'"digest": "%s"'
        text = text.replace(entry % (b"0" * 64), entry % digest.encode())
    return len(text).to_bytes(8, "little") + text + data


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether these are the same tensors, in order, bit for bit: random bits may be NaN, never equal."""
    return list(one) == list(other) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))
        for a, b in zip(one.values(), other.values(), strict=True)
    )
