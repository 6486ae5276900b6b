"""The one place where the steps meet runtime/, whose modules are flat and found by their path."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.gpu.place import Place
from bench.trials import ROOT, SAMPLES, Facts

RUNTIME = ROOT / "runtime"
TRANSCRIBE = RUNTIME / "transcribe.py"
SHORT = SAMPLES / "short.flac"


def module(name: str) -> Any:
    """One of runtime's."""
    if str(RUNTIME) not in sys.path:
        sys.path.insert(0, str(RUNTIME))
    return importlib.import_module(name)


def shapes(place: Place) -> list[str]:
    """The models that are tried."""
    return place.pick(["turbo", "large-v3"], ["nano"])


def tokens(place: Place) -> int:
    """How many a window yields."""
    return place.pick(100, 25)


def state_file(place: Place, shape: str) -> Path:
    """Where models.py puts the state file of a shape; its grandparent is what `--home` wants."""
    return place.scratch / "state" / f"{shape}.safetensors"


class Log:
    """Keeps what the runtime tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        """A line."""
        self.lines.append(text)

    def progress(self, part: float) -> None:
        """Nothing."""


def decoder(place: Place, shape: str, size: int = 1, log: Log | None = None) -> Any:
    """A decoder of a shape, by way of the CPU: what brings a file to a GPU is a step of its own."""
    tensors, metadata = module("state").load(state_file(place, shape))
    tensors = {name: tensor.to(place.device) for name, tensor in tensors.items()}
    network = module("whisper").Whisper(
        tensors, module("layout").Dimensions.from_json(metadata["dimensions"])
    )
    asked = module("options").Options(language="en", best_of=1)
    vocabulary = module("vocabulary").Vocabulary(metadata)
    return module("decoding").Decoder(network, vocabulary, asked, size, log)


def features(place: Place, network: Any, rows: int) -> Any:
    """Of so many windows, at random: these models say the same whatever they hear."""
    import torch  # noqa: PLC0415  see place.py

    dims = network.dims
    return torch.randn(rows, dims.max_source_positions, dims.d_model, device=place.device).to(network.dtype)


def transcribe(place: Place, shape: str, recording: Path, *options: str) -> tuple[Facts, Facts]:
    """A fresh process: what --timings says, and the JSON that it writes. Raises RuntimeError."""
    command = [sys.executable, str(TRANSCRIBE), *arguments(place, shape, recording), *options]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"transcribe ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stderr.splitlines()[-1]), json.loads(done.stdout)


def arguments(place: Place, shape: str, recording: Path) -> list[str]:
    """What `transcribe` is told."""
    home = state_file(place, shape).parent.parent
    said = ["--home", str(home), "--model", shape, "--load", "state", "--device", place.device]
    return [*said, "--language", "en", "--quiet", "--timings=json", "-f", "json", str(recording)]
