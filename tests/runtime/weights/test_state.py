"""The state file: its content; damage is detected, and false headers are refused."""

import errno
import hashlib
import json
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
import xxhash

from preheat import statecli
from preheat.model.layout import Dimensions, layout
from preheat.weights import checkpoint, state, statefile, transfer
from preheat.weights.readahead import ReadAhead
from preheat.weights.statefile import StateError
from tests.runtime.handmade import header_of, same, with_header
from tests.runtime.homes import RUNTIME

NAME = "whisper-nato"


@pytest.fixture(scope="module")
def packed(checkpoint_folder: Path) -> checkpoint.Packed:
    """The fixture model as standard loading packs it."""
    return checkpoint.pack(checkpoint_folder, torch.float32)


@pytest.fixture
def file(baked: Path, tmp_path: Path) -> Path:
    """A state file to damage."""
    return Path(shutil.copy(baked / f"state/{NAME}.safetensors", tmp_path))


def test_load_gives_what_was_packed(file: Path, packed: checkpoint.Packed) -> None:
    tensors, metadata = state.load(ReadAhead(file))
    assert list(tensors) == list(packed[0])
    assert all(torch.equal(tensors[name], packed[0][name]) for name in tensors)
    assert {name: metadata[name] for name in packed[1]} == packed[1]


def test_safetensors_opens_it(file: Path, packed: checkpoint.Packed) -> None:
    with safetensors.safe_open(file, framework="pt") as opened:
        assert set(opened.keys()) == set(packed[0])
        assert all(torch.equal(opened.get_tensor(name), packed[0][name]) for name in packed[0])
        assert opened.metadata()["format"] == "preheat-state"


def test_it_is_laid_out_as_described(file: Path, checkpoint_folder: Path) -> None:
    header, data = header_of(file.read_bytes())
    assert (file.stat().st_size - len(data)) % 4096 == 0
    metadata = header.pop("__metadata__")
    assert list(header) == list(layout(Dimensions(**json.loads(metadata["dimensions"]))))
    offsets = [entry["data_offsets"] for entry in header.values()]
    assert offsets == sorted(offsets)
    assert [0, *(end for _, end in offsets)] == [*(begin for begin, _ in offsets), len(data)]
    chunks = [data[begin : begin + (16 << 20)] for begin in range(0, len(data), 16 << 20)]
    assert json.loads(metadata["xxh3_64"]) == [f"{xxhash.xxh3_64_intdigest(c):016x}" for c in chunks]
    provenance = json.loads(metadata["provenance"])
    weights = (checkpoint_folder / "model.safetensors").read_bytes()
    assert provenance["sha256"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert provenance["torch"] == torch.__version__
    for name in ("tokens", "tokenizer", "generation"):
        json.loads(metadata[name])


def test_queries_keys_and_values_are_fused(file: Path, checkpoint_folder: Path) -> None:
    tensors, _ = state.load(ReadAhead(file))
    with safetensors.safe_open(checkpoint_folder / "model.safetensors", framework="pt") as source:
        parts = [source.get_tensor(f"model.decoder.layers.1.self_attn.{p}_proj.weight") for p in "qkv"]
        assert torch.equal(tensors["decoder.1.attention.qkv.weight"], torch.cat(parts))
        bias = source.get_tensor("model.decoder.layers.1.self_attn.v_proj.bias")
    assert torch.equal(tensors["decoder.1.attention.qkv.bias"].chunk(3)[1], torch.zeros_like(bias))
    assert torch.equal(tensors["decoder.1.attention.qkv.bias"].chunk(3)[2], bias)
    # The output projection is the token embedding; it is there once.
    assert sum(tensor.shape == tensors["decoder.tokens"].shape for tensor in tensors.values()) == 1


def test_checksums_span_tensors_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "CHUNK", 10)
    content = bytes(range(35))
    blobs = [memoryview(content)[begin:end] for begin, end in ((0, 3), (3, 3), (3, 30), (30, 35))]
    wanted = [xxhash.xxh3_64_hexdigest(content[begin : begin + 10]) for begin in range(0, 35, 10)]
    assert list(statefile.checksums(blobs)) == wanted
    assert list(statefile.checksums([memoryview(content)[:20]])) == wanted[:2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_is_that_of_the_network_only(
    dtype: str, packed: checkpoint.Packed, checkpoint_folder: Path, tmp_path: Path
) -> None:
    """The log-mel is always computed in float32."""
    state.write(tmp_path / "half", checkpoint.pack(checkpoint_folder, getattr(torch, dtype)))
    tensors, metadata = state.load(ReadAhead(tmp_path / "half"))
    assert metadata["dtype"] == dtype
    for name, tensor in tensors.items():
        kept = torch.float32 if name.startswith("audio.") else getattr(torch, dtype)
        assert torch.equal(tensor, packed[0][name].to(kept)), name


def flip(at: Callable[[bytes], int], bit: int = 0) -> Callable[[bytes], bytes]:
    """Damage: one bit at an offset."""

    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[at(content)] ^= 1 << bit
        return bytes(changed)

    return damage


def data_start(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte of the data": flip(data_start),
    "middle of the data": flip(lambda c: (data_start(c) + len(c)) // 2, bit=7),
    "last byte": flip(lambda c: len(c) - 1, bit=3),
    "a digit of an offset": flip(lambda c: c.index(b'"data_offsets":[') + 17),
    "a letter of a token": flip(lambda c: c.index(b"alpha")),
    "a checksum": flip(lambda c: c.index(b'"xxh3_64":"[') + 14),
    "the digest": flip(lambda c: c.index(b'"digest":"') + 12),
    "the header's length": flip(lambda c: 1),
    "the header's length, huge": flip(lambda c: 7, bit=6),
    "the padding of the header": flip(lambda c: data_start(c) - 1),
    "a bracket": flip(lambda c: 8),
    "not UTF-8": flip(lambda c: 20, bit=7),
    "cut in the data": lambda c: c[:-1],
    "cut in the header": lambda c: c[:5000],
    "cut in the length": lambda c: c[:5],
    "empty": lambda c: b"",
    "longer": lambda c: c + b"\0",
    "swapped": lambda c: c[: data_start(c)] + c[data_start(c) + 4096 :] + c[data_start(c) :][:4096],
    "other JSON": lambda c: (4088).to_bytes(8, "little") + b"[1]".ljust(4088),
    "deep JSON": lambda c: (4088).to_bytes(8, "little") + b"[" * 4088,
    "a pickle": lambda c: b"\x80\x04" + c,
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_seen(kind: str, file: Path) -> None:
    content = file.read_bytes()
    damaged = DAMAGES[kind](content)
    assert damaged != content
    file.write_bytes(damaged)
    with pytest.raises(StateError) as raised:
        state.load(ReadAhead(file))
    message = str(raised.value)
    assert str(file) in message and message.endswith("; run state.py bake again") and "\n" not in message
    too_long = ("the header's length, huge", "cut in the header", "a pickle")
    assert ("claims a header of" in message) == (kind in too_long)


def lie(change: Callable[[dict[str, Any], dict[str, str]], object]) -> Callable[[dict[str, Any]], None]:
    """A header that says something else, as if made by another program."""

    def apply(header: dict[str, Any]) -> None:
        change(header, header["__metadata__"])

    return apply


def grow(header: dict[str, Any], metadata: dict[str, str]) -> None:
    """Damage: tensors of an exabyte, consistently described."""
    dims = json.loads(metadata["dimensions"]) | {"vocab_size": 1 << 50}
    metadata["dimensions"] = json.dumps(dims)
    header |= statefile.describe(Dimensions(**dims), "float32")


def redimension(**changes: object) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def change(header: dict[str, Any], metadata: dict[str, str]) -> None:
        metadata["dimensions"] = json.dumps(json.loads(metadata["dimensions"]) | changes)

    return change


# What the message must contain: found and expected value, where there are both.
LIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "version": (lie(lambda h, m: m.update(version="1")), r"'1'.*'2'"),
    "format": (lie(lambda h, m: m.update(format="gguf")), r"gguf.*preheat-state"),
    "dtype": (lie(lambda h, m: m.update(dtype="float16")), r"encoder.conv1.weight.*F32.*F16"),
    "no such dtype": (
        lie(lambda h, m: m.update(dtype="int4")),
        "'int4', this program supports float32, float16",
    ),
    "shape": (lie(redimension(d_model=256)), r"\[128, 80, 3\].*\[256, 80, 3\]"),
    "layers": (lie(redimension(decoder_layers=3)), r"decoder.2.attention.norm.weight is None in the file"),
    "endless layers": (lie(redimension(decoder_layers=1 << 60)), "too few"),
    "negative": (lie(redimension(d_model=-1)), "impossible dimensions"),
    "no number": (lie(redimension(d_model="128")), "impossible dimensions"),
    "a tensor more": (
        lie(lambda h, m: h.update(more=h["encoder.norm.bias"])),
        "more is .* None in the network",
    ),
    "a tensor less": (lie(lambda h, m: h.pop("encoder.norm.bias")), r"encoder.norm.bias is None in the file"),
    "an exabyte": (lie(grow), r"bytes of tensors, its header says [\d,]{20}"),
    "checksums": (lie(lambda h, m: m.update(xxh3_64="[]")), "0 checksums for 1 chunks"),
    "no numbers": (lie(redimension(d_model="9" * 5000)), "impossible dimensions"),
    "not text": (lie(lambda h, m: h["__metadata__"].update(tokenizer=[])), "has tokenizer that is not text"),
    "not an object": (
        lie(lambda h, m: m.update(generation="[]")),
        "has generation that is not a JSON object",
    ),
    "many lines": (lie(lambda h, m: h.update({"a\nb": "c\n"})), "a b is c in the file|a b is c"),
    "no tokenizer": (lie(lambda h, m: m.pop("tokenizer")), "lacks its tokenizer"),
    "no tokens": (lie(lambda h, m: m.pop("tokens")), "lacks its tokens"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_lying_header_is_refused(kind: str, file: Path) -> None:
    """Even with a correct digest: nothing is allocated or used because of what it claims."""
    change, message = LIES[kind]
    header, data = header_of(file.read_bytes())
    change(header)
    file.write_bytes(with_header(header, data))
    with pytest.raises(StateError, match=message) as raised:
        state.load(ReadAhead(file))
    assert "\n" not in str(raised.value)


def test_numbers_and_order_are_the_programs_own(file: Path, packed: checkpoint.Packed) -> None:
    """If the header's entries are equal to the expected ones, but not identical."""
    header, data = header_of(file.read_bytes())
    for name in list(header)[:0:-1]:
        entry = header.pop(name)
        entry["data_offsets"] = [float(offset) for offset in entry["data_offsets"]]
        header[name] = entry | {"shape": [float(size) for size in entry["shape"]]}
    file.write_bytes(with_header(header, data))
    reading = ReadAhead(file, "cuda")
    streamed = state.views(transfer.to_device(reading, "cpu"), reading.header().entries)
    for tensors in (state.load(ReadAhead(file))[0], streamed):
        assert same(tensors, packed[0])


def test_data_must_begin_with_a_page(file: Path) -> None:
    header, data = header_of(file.read_bytes())
    file.write_bytes(with_header(header, data, page=64))
    with pytest.raises(StateError, match=r"has its data at byte [\d,]+, not at a multiple of 4,096"):
        state.load(ReadAhead(file))


def test_an_edited_header_is_refused(file: Path) -> None:
    """An edit that would be valid with a new digest, but without one."""
    header, data = header_of(file.read_bytes())
    settings = json.loads(header["__metadata__"]["generation"]) | {"max_initial_timestamp_index": 7}
    header["__metadata__"]["generation"] = json.dumps(settings)
    file.write_bytes(with_header(header, data, sign=False))
    with pytest.raises(StateError, match="changed header"):
        state.load(ReadAhead(file))
    file.write_bytes(with_header(header, data))
    state.load(ReadAhead(file))


def test_verify_reports_or_fails(file: Path) -> None:
    command = [sys.executable, str(RUNTIME / "state.py"), "verify", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(DAMAGES["last byte"](file.read_bytes()))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is damaged" in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_cannot_be_read_is_named(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the error occurs: in the checks, or in the second read, for the SHA-256."""

    def fail(*_: object, **settings: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    wanted = f"state: cannot read the state file {file}: Input/output error; run state.py bake again\n"
    for module, name in ((hashlib, "file_digest"), (mmap, "mmap")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            assert statecli.state(["verify", str(file)]) == 1
        assert capsys.readouterr() == ("", wanted)


def test_control_c_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "load", interrupt)
    assert statecli.state(["verify", "any"]) == 130
    assert capsys.readouterr() == ("", "state: interrupted\n")
