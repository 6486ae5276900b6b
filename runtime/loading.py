"""Which model, and how it gets into memory: the strategies, tried in order.

1. `state`: from its state file (state.py), the fast way;
2. `standard`: from its checkpoint, which transformers reads (checkpoint.py).

Both fill the same network. A state file that cannot be used is a warning as long as there is a checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layout import Dimensions
from statefile import StateError
from timing import Log, warn

if TYPE_CHECKING:
    from decoding import Vocabulary
    from whisper import Whisper

STRATEGIES = ("state", "standard")


class ModelError(Exception):
    """No usable model: one line with cause and cure."""


@dataclass(frozen=True)
class Model:
    """A model ready to use."""

    name: str
    network: "Whisper"
    vocabulary: "Vocabulary"
    strategy: str  # which of STRATEGIES worked


def find(home: Path, wanted: str | None) -> str:
    """The name of the model to use, if `wanted` is None the only one in `home`. Raises ModelError."""
    states = {path.stem for path in (home / "state").glob("*.safetensors")}
    names = sorted(states | {path.parent.name for path in (home / "model").glob("*/config.json")})
    if not names:
        raise ModelError(
            f"no model in {home}: neither state/NAME.safetensors nor model/NAME/config.json is there; "
            "name the folder that holds them with --home"
        )
    if wanted is None and len(names) > 1:
        raise ModelError(f"{len(names)} models in {home}; choose one with --model: {', '.join(names)}")
    if wanted is not None and wanted not in names:
        raise ModelError(f"no model {wanted} in {home}; choose one with --model: {', '.join(names)}")
    return wanted or names[0]


def load(home: Path, name: str, strategies: list[str], device: str, log: Log) -> Model:
    """The model by the first strategy that works; `device` may be "auto". Raises ModelError."""
    with log.phase("import torch"):
        import torch  # noqa: PLC0415  --help, a wrong option or a missing file should not wait for it
    with log.phase("import network"):
        import checkpoint  # noqa: PLC0415  needs torch
        import decoding  # noqa: PLC0415  needs torch
        import state  # noqa: PLC0415  needs torch
        import whisper  # noqa: PLC0415  needs torch
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: torch finds no GPU; see what nvidia-smi says, or use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    reasons = []
    for strategy in strategies:
        try:
            with log.phase("load model"):
                if strategy == "state":
                    tensors, metadata = state.load(home / "state" / f"{name}.safetensors", device)
                else:
                    # The precision that state files are made in for either.
                    dtype = torch.float16 if device == "cuda" else torch.float32
                    tensors, metadata = checkpoint.pack(home / "model" / name, dtype, device)
                network = whisper.Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
                vocabulary = decoding.Vocabulary(metadata)
        except (StateError, checkpoint.CheckpointError) as error:
            reasons.append(str(error))
            if strategy != strategies[-1]:
                warn(f"{error}; going on with {strategies[-1]} loading")
            continue
        seconds = log.seconds("load model")
        log.info(f"model {name} ready in {seconds:.2f} s: {strategy} loading, {device}, {metadata['dtype']}")
        return Model(name, network, vocabulary, strategy)
    raise ModelError("; and ".join(reasons))
