"""loading.py from the command line: which model, by which strategy, and errors."""

import errno
import json
import mmap
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
import torch
import transformers

from preheat import cli, memory, transcribe
from preheat.model import warmup
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.timing import Log
from preheat.weights import checkpoint, state
from preheat.weights.loading import Loading
from preheat.weights.readahead import ReadAhead
from tests.runtime.console import NAME, Run, errors
from tests.runtime.handmade import header_of, with_header


@pytest.mark.skipif(torch.cuda.is_available(), reason="it checks the error where there is no GPU")
def test_no_gpu(main: Run, silence: Path) -> None:
    done = main("--device", "cuda", silence)
    assert done.returncode == 3
    assert "torch finds no GPU; check nvidia-smi, or use --device cpu" in errors(done)[-1]


def test_standard_loading_says_nothing_else(main: Run, samples: Path) -> None:
    """Not even at exit, when transformers' imports are torn down: the last line is the report."""
    done = main("--timings=json", "--quiet", "--load", "standard", samples / "short.flac")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["strategy"] == "standard"


def damage(path: Path) -> None:
    """Flip one bit in the middle of the data."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def make_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


TROUBLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (damage, "is damaged: chunk 0"),
    "cut": (lambda path: os.truncate(path, 4_000_000), "bytes of tensors, its header says"),
    "missing": (lambda path: path.unlink(), "No such file or directory"),
    "a folder": (make_folder, "Is a directory"),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_bad_state_file_is_a_warning(kind: str, home: Path, main: Run, samples: Path) -> None:
    """Standard loading gives the same words; --load state fails instead."""
    wanted = main("--quiet", samples / "short.flac").stdout
    path = home / f"state/{NAME}.safetensors"
    trouble, words = TROUBLES[kind]
    trouble(path)
    done = main("--quiet", "--home", home, "--timings=json", samples / "short.flac")
    assert (done.returncode, done.stdout) == (0, wanted)
    warning, timings = done.stderr.splitlines()
    assert str(path) in warning and words in warning
    assert warning.endswith("run state.py bake again; going on with standard loading")
    assert json.loads(timings)["strategy"] == "standard"
    done = main("--home", home, "--load", "state", samples / "short.flac")
    assert (done.returncode, done.stdout) == (3, "")
    assert words in errors(done)[-1]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("generation", "{}", "is not one, or its header is damaged"),
        ("generation", '{"is_multilingual": true, "alignment_heads": [1]}', "is not one"),
        ("tokens", "{}", "has no token <|endoftext|>"),
        ("tokens", "[7]", "is not one"),
    ],
)
def test_a_state_file_with_poor_metadata_is_a_warning(  # noqa: PLR0913, PLR0917  fixtures, mostly
    name: str, text: str, words: str, home: Path, main: Run, samples: Path
) -> None:
    """Its digest is correct, as if another program had written it."""
    path = home / f"state/{NAME}.safetensors"
    header, data = header_of(path.read_bytes())
    header["__metadata__"][name] = text
    path.write_bytes(with_header(header, data))
    done = main("--quiet", "--home", home, "--timings=json", samples / "short.flac")
    warning, timings = done.stderr.splitlines()
    assert done.returncode == 0 and json.loads(timings)["strategy"] == "standard"
    assert f"the state file {path} {words}" in warning
    assert warning.endswith("run state.py bake again; going on with standard loading")
    done = main("--home", home, "--load", "state", samples / "short.flac")
    assert (done.returncode, done.stdout) == (3, "")
    assert words in errors(done)[-1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB."),
        RuntimeError("CUDA error: device-side assert triggered\nmore about it"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        MemoryError("not enough memory"),
    ],
)
def test_what_torch_cannot_load(
    error: Exception, main: Run, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each strategy is tried; if all fail, there is no usable model."""

    def fail(*_: object) -> None:
        raise error

    first = str(error).partition("\n")[0].rstrip(".")
    monkeypatch.setattr(state, "load", fail)
    done = main("--quiet", samples / "short.flac")
    assert done.returncode == 0 and "zero" in done.stdout
    (warning,) = errors(done)
    assert f"state loading failed on cpu: {first}; check free memory and ulimit " in warning
    assert warning.endswith("going on with standard loading")
    monkeypatch.setattr(checkpoint, "pack", fail)
    for way in ("auto", "state", "standard"):
        done = main("--quiet", "--load", way, samples / "short.flac")
        assert (done.returncode, done.stdout) == (3, "")
        assert errors(done)[-1].count(first) == (2 if way == "auto" else 1)


SHORT = {
    "Python": MemoryError(),
    "the system": OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB."),
    "a library": ImportError("libx.so: failed to map segment from shared object"),
    "safetensors": Exception("Error while deserializing: I/O error: Cannot allocate memory (os error 12)"),
}


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_want_of_memory_is_not_the_checkpoint(
    kind: str, wrapped: bool, main: Run, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message must not say to fetch the model again, whatever error transformers raises."""

    def fail(*_: object, **settings: object) -> None:
        if wrapped:
            raise OSError("Unable to load weights from the checkpoint") from SHORT[kind]
        raise SHORT[kind]

    monkeypatch.setattr(transformers.WhisperForConditionalGeneration, "from_pretrained", fail)
    done = main("--quiet", "--load", "standard", samples / "short.flac")
    assert done.returncode == 3
    (line,) = errors(done)
    start, end = "transcribe: standard loading failed on cpu: ", f"; {memory.CURE}"
    assert line.startswith(start) and line.endswith(end)
    assert "memory" in line.removesuffix(end) or "failed to map segment" in line
    monkeypatch.setattr(mmap, "mmap", fail)
    done = main("--quiet", samples / "short.flac")
    assert done.returncode == 3 and done.stdout == ""
    assert "fetch the model" not in done.stderr


@pytest.mark.parametrize("size", [70, 260, 400, 600])
def test_too_little_memory_to_import(size: int, run: Run, samples: Path) -> None:
    """One line, wherever memory runs out; no message of a C++ thread that was still running."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (size << 20, size << 20))

    done = run("--quiet", samples / "short.flac", preexec_fn=limit)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = errors(done)
    assert "cannot be imported: " in line and line.endswith(memory.CURE)


def test_memory_that_runs_out_anywhere(main: Run, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(transcribe, "find", fail)
    done = main("--quiet", samples / "short.flac")
    assert (done.returncode, errors(done)) == (3, [f"transcribe: not enough memory; {memory.CURE}"])


def test_neither_state_file_nor_checkpoint(home: Path, main: Run, samples: Path) -> None:
    damage(home / f"state/{NAME}.safetensors")
    (home / "model" / NAME / "model.safetensors").unlink()
    done = main("--home", home, samples / "short.flac")
    assert (done.returncode, done.stdout) == (3, "")
    last = errors(done)[-1]
    assert "is damaged: chunk 0" in last and "run state.py bake again; and no usable checkpoint" in last
    assert last.endswith("fetch the model again")


def test_which_model(home: Path, main: Run, silence: Path) -> None:
    shutil.copytree(home / "model" / NAME, home / "model/other")
    assert "2 models in" in errors(done := main("--home", home, silence))[-1] and done.returncode == 3
    assert main("--home", home, "--model", NAME, silence).returncode == 0
    done = main("--home", home, "--model", "../model/other", silence)
    assert done.returncode == 3
    assert errors(done)[-1].endswith(f"choose one with --model: other, {NAME}")
    shutil.rmtree(home / "model")
    shutil.rmtree(home / "state")
    done = main("--home", home, silence)
    assert done.returncode == 3 and "give the folder that contains them with --home" in errors(done)[-1]


def test_home_by_the_environment(home: Path, silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIBE_HOME", str(home))
    assert cli.transcribe(["--quiet", str(silence)]) == 0


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: unspecified launch failure"), MemoryError(), OSError("libcudnn.so")]
)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_everything_is_called_once_while_weights_are_read(
    error: Exception, baked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither waits for the other, and errors there are ignored: the real calls report them."""
    called, calls = Event(), []
    load = state.load

    def warm(dims: Dimensions, dtype: torch.dtype, device: torch.device, vocabulary: Vocabulary) -> None:
        calls.append((dims.d_model, dtype, device, vocabulary.end))
        called.set()
        raise error

    def loaded(reading: ReadAhead, device: str) -> checkpoint.Packed:
        assert device == "cuda" and called.wait(60)
        return load(reading)

    monkeypatch.setattr(warmup, "warm_up", warm)
    monkeypatch.setattr(state, "load", loaded)
    log = Log(quiet=True)
    loading = Loading(baked, NAME, ["state"], "cpu", log)
    loading.device = "cuda"
    _, metadata = loading.pack("state")
    dims = json.loads(metadata["dimensions"])
    assert calls == [(dims["d_model"], torch.float32, torch.device("cuda"), Vocabulary(metadata).end)]
    assert "warm up" in [phase["name"] for phase in log.phases]
