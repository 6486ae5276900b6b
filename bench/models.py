"""The same weights in the form that each system loads.

    .venv/bin/python -m bench.models pickled --model DIR --output FILE --dtype bfloat16

makes one of them. `Models` makes a folder of models once and keeps it. Its layout, in which DTYPE is also the
folder for `transcribe --home`:

    model/NAME/                        the checkpoint, float16 like published ones
    DTYPE/model                        a link to model
    DTYPE/state/NAME.safetensors       runtime/state.py bake
    DTYPE/pickled/NAME.pt              torch.save of transformers' whole model object
    DTYPE/tensors/NAME.pt              torch.save of the state file's tensors
    DTYPE/ctranslate2/NAME/            ctranslate2's own converter, for faster-whisper
"""

import argparse
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import ROOT, call

CTRANSLATE2_COPIES = ["tokenizer.json", "preprocessor_config.json"]


@dataclass(frozen=True)
class Models:
    """A folder of models, all of one precision. Each method makes files that do not exist yet."""

    folder: Path
    dtype: str

    @property
    def home(self) -> Path:
        """The folder for `transcribe --home`."""
        return self.folder / self.dtype

    def checkpoint(self, name: str) -> Path:
        """The checkpoint of a model. For large-v3-100: the shape large-v3, with 100 tokens a window."""
        path = self.folder / "model" / name
        if not path.exists():
            shape, _, tokens = name.rpartition("-")
            make("bench.shapes", shape, "--tokens", tokens, output=path)
        return path

    def adopt(self, checkpoint: Path) -> str:
        """Add a checkpoint from another folder, by a link; returns its name."""
        link = self.folder / "model" / checkpoint.resolve().name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(checkpoint.resolve())
        return link.name

    def state(self, name: str) -> Path:
        """The state file of a model; with it, `home` is complete."""
        checkpoint, path = self.checkpoint(name), self.home / "state" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        link = self.home / "model"
        if not link.is_symlink():
            link.symlink_to(Path("..") / "model")
        if not path.exists():
            note(path)
            bake = [str(ROOT / "runtime" / "state.py"), "bake", "--model", str(checkpoint)]
            call([*bake, "--output", str(path), "--dtype", self.dtype])
        return path

    def other(self, kind: str, name: str) -> Path:
        """The model in one of the other forms, KINDS."""
        source = self.state(name) if kind == "tensors" else self.checkpoint(name)
        path = self.home / kind / (name if kind == "ctranslate2" else f"{name}.pt")
        if not path.exists():
            make("bench.models", kind, "--model", str(source), "--dtype", self.dtype, output=path)
        return path


def make(module: str, *arguments: str, output: Path) -> None:
    """Run a module that writes `output`, in its own process, so that its memory is freed afterwards."""
    note(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    incoming = output.with_name(f"{output.name}.incoming")  # renamed when complete
    call(["-m", module, *arguments, "--output", str(incoming)])
    incoming.rename(output)


def note(path: Path) -> None:
    """Report what is being made, as it takes long."""
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"bench: making {shown}", file=sys.stderr, flush=True)


def pickled(model: Path, output: Path, dtype: str) -> None:
    """Pickle transformers' whole model object, which refers to its code."""
    import torch  # noqa: PLC0415  benchmarks that import this module do not need torch
    from transformers import WhisperForConditionalGeneration  # noqa: PLC0415  nor transformers

    wanted = getattr(torch, dtype)
    torch.save(WhisperForConditionalGeneration.from_pretrained(model, dtype=wanted), output)


def tensors(state: Path, output: Path, _dtype: str) -> None:
    """Save the state file's tensors, in their precision, as a dict by torch.save."""
    import torch  # noqa: PLC0415  as in `pickled`
    from safetensors.torch import load_file  # noqa: PLC0415  as in `pickled`

    torch.save(load_file(state), output)


def ctranslate2(model: Path, output: Path, dtype: str) -> None:
    """Convert a checkpoint as users of faster-whisper do."""
    converters: Any = importlib.import_module("ctranslate2.converters")
    converter = converters.TransformersConverter(
        str(model), copy_files=CTRANSLATE2_COPIES, load_as_float16=dtype == "float16"
    )
    converter.convert(str(output), quantization=dtype)


KINDS = {"pickled": pickled, "tensors": tensors, "ctranslate2": ctranslate2}


def main() -> None:
    """Make one form of a model."""
    parser = argparse.ArgumentParser(description="A model's weights in the form that a system loads.")
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--model", type=Path, required=True, help="its checkpoint, or state file for tensors")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dtype", required=True, help="float32, float16 or bfloat16")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    KINDS[arguments.kind](arguments.model, arguments.output, arguments.dtype)


if __name__ == "__main__":
    main()
