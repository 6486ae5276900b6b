"""What several steps use of runtime/, and how they run its command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.gpu.place import Place
from bench.harness import ROOT, SAMPLES, Facts
from preheat import timing

TRANSCRIBE = ROOT / "runtime" / "transcribe.py"
if TYPE_CHECKING:
    from torch import Tensor

    from preheat.model.decoding import Decoder
    from preheat.model.whisper import Whisper

SHORT = SAMPLES / "short.flac"

# ruff: noqa: PLC0415  torch is imported where it is used, see place.py


def shapes(place: Place) -> list[str]:
    """The models that the steps use."""
    return place.pick(["turbo", "large-v3"], ["nano"])


def tokens(place: Place) -> int:
    """The number of tokens in a window."""
    return place.pick(100, 25)


def state_file(place: Place, shape: str) -> Path:
    """Where models.py puts the state file of a shape; its grandparent is the folder for `--home`."""
    return place.scratch / "state" / f"{shape}.safetensors"


class Log(timing.Log):
    """Keeps the runtime's messages."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def info(self, text: str, **_: object) -> None:
        """Keep a message."""
        self.lines.append(text)

    def progress(self, part: float) -> None:
        """Do nothing."""


def decoder(place: Place, shape: str, size: int = 1, log: Log | None = None) -> "Decoder":
    """A decoder of a shape, loaded through the CPU: loading straight to a GPU is a separate step."""
    from preheat.model.decoding import Decoder
    from preheat.model.layout import Dimensions
    from preheat.model.vocabulary import Vocabulary
    from preheat.model.whisper import Whisper
    from preheat.options import Options
    from preheat.weights import state
    from preheat.weights.readahead import ReadAhead

    tensors, metadata = state.load(ReadAhead(state_file(place, shape)))
    tensors = {name: tensor.to(place.device) for name, tensor in tensors.items()}
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    asked = Options(language="en", best_of=1)
    return Decoder(network, Vocabulary(metadata), asked, size, log)


def features(place: Place, network: "Whisper", rows: int) -> "Tensor":
    """Random features for `rows` windows; these models give the same tokens for any input."""
    import torch

    dims = network.dims
    return torch.randn(rows, dims.max_source_positions, dims.d_model, device=place.device).to(network.dtype)


def transcribe(place: Place, shape: str, recording: Path, *options: str) -> tuple[Facts, Facts]:
    """Run `transcribe` in a fresh process; its --timings and its JSON document. Raises RuntimeError."""
    command = [sys.executable, str(TRANSCRIBE), *arguments(place, shape, recording), *options]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"transcribe ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stderr.splitlines()[-1]), json.loads(done.stdout)


def arguments(place: Place, shape: str, recording: Path) -> list[str]:
    """The arguments of `transcribe`."""
    home = state_file(place, shape).parent.parent
    said = ["--home", str(home), "--model", shape, "--load", "state", "--device", place.device]
    return [*said, "--language", "en", "--quiet", "--timings=json", "-f", "json", str(recording)]
