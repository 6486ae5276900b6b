"""The state file: what is in it, that no damage goes unseen, that a failed bake leaves the old one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint
import pytest
import safetensors
import state
import torch
from layout import Dimensions, layout

NAME = "whisper-nato"
STATE = Path(state.__file__)


@pytest.fixture(scope="module")
def packed(checkpoint_folder: Path) -> checkpoint.Packed:
    """What standard loading gives."""
    return checkpoint.pack(checkpoint_folder, torch.float32)


@pytest.fixture
def file(baked: Path, tmp_path: Path) -> Path:
    """A state file to damage."""
    return Path(shutil.copy(baked / f"state/{NAME}.safetensors", tmp_path))


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data, read by the description of the format alone."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path: Path, header: dict[str, Any], data: bytes, *, sign: bool = True) -> None:
    """Write a state file with any header; `sign` makes its digest right."""
    metadata = header["__metadata__"]
    if sign:
        metadata.pop("digest")
        text = json.dumps(header, sort_keys=True, separators=(",", ":"))
        metadata["digest"] = hashlib.sha256(text.encode()).hexdigest()
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % 4096)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def test_load_gives_what_was_packed(file: Path, packed: checkpoint.Packed) -> None:
    tensors, metadata = state.load(file)
    assert list(tensors) == list(packed[0])
    assert all(torch.equal(tensors[name], packed[0][name]) for name in tensors)
    assert {name: metadata[name] for name in packed[1]} == packed[1]


def test_safetensors_opens_it(file: Path, packed: checkpoint.Packed) -> None:
    with safetensors.safe_open(file, framework="pt") as opened:
        assert set(opened.keys()) == set(packed[0])
        assert all(torch.equal(opened.get_tensor(name), packed[0][name]) for name in packed[0])
        assert opened.metadata()["format"] == "preheat-state"


def test_it_is_laid_out_as_described(file: Path, checkpoint_folder: Path) -> None:
    header, data = header_of(file)
    assert (file.stat().st_size - len(data)) % 4096 == 0
    metadata = header.pop("__metadata__")
    assert list(header) == list(layout(Dimensions(**json.loads(metadata["dimensions"]))))
    offsets = [entry["data_offsets"] for entry in header.values()]
    assert offsets == sorted(offsets)
    assert [0, *(end for _, end in offsets)] == [*(begin for begin, _ in offsets), len(data)]
    chunks = [data[begin : begin + (16 << 20)] for begin in range(0, len(data), 16 << 20)]
    assert json.loads(metadata["crc32"]) == [zlib.crc32(chunk) for chunk in chunks]
    provenance = json.loads(metadata["provenance"])
    weights = (checkpoint_folder / "model.safetensors").read_bytes()
    assert provenance["sha256"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert provenance["torch"] == torch.__version__
    for name in ("tokenizer", "generation"):
        json.loads(metadata[name])


def test_queries_keys_and_values_are_fused(file: Path, checkpoint_folder: Path) -> None:
    tensors, _ = state.load(file)
    with safetensors.safe_open(checkpoint_folder / "model.safetensors", framework="pt") as source:
        parts = [source.get_tensor(f"model.decoder.layers.1.self_attn.{p}_proj.weight") for p in "qkv"]
        assert torch.equal(tensors["decoder.1.attention.qkv.weight"], torch.cat(parts))
        bias = source.get_tensor("model.decoder.layers.1.self_attn.v_proj.bias")
    assert torch.equal(tensors["decoder.1.attention.qkv.bias"].chunk(3)[1], torch.zeros_like(bias))
    assert torch.equal(tensors["decoder.1.attention.qkv.bias"].chunk(3)[2], bias)
    # The output projection is the token embedding; it is there once.
    assert sum(tensor.shape == tensors["decoder.tokens"].shape for tensor in tensors.values()) == 1


def test_checksums_span_tensors_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "CHUNK", 10)
    content = bytes(range(35))
    blobs = [memoryview(content)[begin:end] for begin, end in ((0, 3), (3, 3), (3, 30), (30, 35))]
    wanted = [zlib.crc32(content[begin : begin + 10]) for begin in range(0, 35, 10)]
    assert list(state.checksums(blobs)) == wanted
    assert list(state.checksums([memoryview(content)[:20]])) == wanted[:2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_is_that_of_the_network_only(
    dtype: str, packed: checkpoint.Packed, checkpoint_folder: Path, tmp_path: Path
) -> None:
    """The log-mel is always computed in float32."""
    state.write(tmp_path / "half", checkpoint.pack(checkpoint_folder, getattr(torch, dtype)))
    tensors, metadata = state.load(tmp_path / "half")
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
    "a letter of the tokenizer": flip(lambda c: c.index(b"alpha")),
    "a checksum": flip(lambda c: c.index(b'"crc32":"[') + 12),
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
    with pytest.raises(state.StateError) as raised:
        state.load(file)
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
    """Tensors of an exabyte, consistently."""
    dims = json.loads(metadata["dimensions"]) | {"vocab_size": 1 << 50}
    metadata["dimensions"] = json.dumps(dims)
    header |= state.entries(Dimensions(**dims), "float32")


def redimension(**changes: object) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def change(header: dict[str, Any], metadata: dict[str, str]) -> None:
        metadata["dimensions"] = json.dumps(json.loads(metadata["dimensions"]) | changes)

    return change


# What the message must say: both sides, where there are two.
LIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "version": (lie(lambda h, m: m.update(version="2")), r"'2'.*'1'"),
    "format": (lie(lambda h, m: m.update(format="gguf")), r"gguf.*preheat-state"),
    "dtype": (lie(lambda h, m: m.update(dtype="float16")), r"encoder.conv1.weight.*F32.*F16"),
    "no such dtype": (lie(lambda h, m: m.update(dtype="int4")), "header is damaged"),
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
    "checksums": (lie(lambda h, m: m.update(crc32="[]")), "0 checksums for 1 chunks"),
    "no metadata": (lie(lambda h, m: m.pop("tokenizer")), "nothing of its tokenizer"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_lying_header_is_refused(kind: str, file: Path) -> None:
    """Even one with the right digest: nothing is allocated or used because it says so."""
    change, message = LIES[kind]
    header, data = header_of(file)
    change(header)
    rewrite(file, header, data)
    with pytest.raises(state.StateError, match=message):
        state.load(file)


def test_an_edited_header_is_refused(file: Path) -> None:
    """The same edit as a new version would be, without a new digest."""
    header, data = header_of(file)
    settings = json.loads(header["__metadata__"]["generation"]) | {"max_initial_timestamp_index": 7}
    header["__metadata__"]["generation"] = json.dumps(settings)
    rewrite(file, header, data, sign=False)
    with pytest.raises(state.StateError, match="changed header"):
        state.load(file)
    rewrite(file, header, data)
    state.load(file)


def bake(output: Path, model: Path, *, before: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    """`state.py bake` in a process of its own; `before` is Python to run in it first."""
    path = f"import sys; sys.path.insert(0, {str(STATE.parent)!r})"
    code = f"{path}\n{before}\nimport state; sys.exit(state.main())"
    command = [sys.executable, "-c", code, "bake", "--model", str(model), "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **settings)


def test_baking_twice_gives_the_same_file(baked: Path, tmp_path: Path) -> None:
    first = baked / f"state/{NAME}.safetensors"
    done = bake(tmp_path / "again", baked / "model" / NAME)
    report = json.loads(done.stdout)
    assert report["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert (report["bytes"], report["dtype"]) == (first.stat().st_size, "float32")
    assert report["model"]["name"] == NAME
    assert done.stderr.startswith("state: reading ")


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [
        # Killed when all is written but not yet renamed.
        ("import os; os.fsync = lambda _: os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        # The disk is full after 1 MB: the same path through the kernel, another errno.
        ("import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (1 << 20, 1 << 20))", 1, "cannot write"),
    ],
    ids=["killed", "disk full"],
)
def test_a_bake_that_fails_leaves_the_old_file(
    trouble: str, status: int, words: str, baked: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.safetensors"
    output.write_text("old")
    done = bake(output, baked / "model" / NAME, before=trouble)
    assert done.returncode == status
    assert output.read_text() == "old"
    if status != -signal.SIGKILL:  # nobody is left to clean up after that one
        assert list(tmp_path.iterdir()) == [output]
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_bake_needs_no_home_and_no_rights(baked: Path) -> None:
    """As nobody, without a home and without proxies, it writes its output and nothing else."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        model, output = folder / "model", folder / "state"
        shutil.copytree(baked / "model" / NAME, model)
        temporary = folder / "tmp"
        for writable in (output, temporary):
            writable.mkdir()
            shutil.chown(writable, "nobody")
        settings: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        environment = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "TMPDIR": str(temporary)}
        done = bake(output / "a.safetensors", model, env=environment, **settings)
        assert done.returncode == 0, done.stderr
        assert list(output.iterdir()) == [output / "a.safetensors"]
        assert not list(temporary.iterdir())
        state.verify(output / "a.safetensors")


def test_verify_reports_or_fails(file: Path) -> None:
    command = [sys.executable, str(STATE), "verify", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(DAMAGES["last byte"](file.read_bytes()))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is damaged" in done.stderr and len(done.stderr.splitlines()) == 1


def reconfigure(old: str, new: str) -> Callable[[Path], object]:
    """Damage: another word in config.json."""

    def change(model: Path) -> None:
        path = model / "config.json"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), "config.json"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "in its tokenizer"),
    "config not JSON": (lambda m: (m / "config.json").write_text("{"), "JSON"),
    "weights cut": (lambda m: os.truncate(m / "model.safetensors", 100_000), "incomplete"),
    "another family": (reconfigure('"whisper"', '"bart"'), "bart"),
    "another activation": (reconfigure('"gelu"', '"relu"'), "activation_function is relu"),
    "a layer missing": (reconfigure('"decoder_layers": 2', '"decoder_layers": 3'), "tensors are missing"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_one_line(kind: str, checkpoint_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(checkpoint_folder, tmp_path / "model"))
    change, words = BROKEN[kind]
    change(model)
    with pytest.raises(checkpoint.CheckpointError) as raised:
        checkpoint.pack(model, torch.float32)
    message = str(raised.value)
    assert str(model) in message and words in message and "\n" not in message
    assert message.endswith("fetch the model again")
