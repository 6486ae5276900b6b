"""Finds a model and loads it, by the first strategy that works:

1. `state`: from its state file (state.py), the fast way;
2. `standard`: from its checkpoint, which transformers reads (checkpoint.py).

Both give the same network. If the state file cannot be used, there is a warning, and the checkpoint is tried.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from preheat import memory
from preheat.model.layout import Dimensions
from preheat.storage import RUNTIME
from preheat.threads import meanwhile
from preheat.timing import Log, reason, warn
from preheat.weights import gpu
from preheat.weights.readahead import ReadAhead
from preheat.weights.statefile import StateError

if TYPE_CHECKING:
    from preheat.model.vocabulary import Vocabulary
    from preheat.model.whisper import Whisper
    from preheat.weights.checkpoint import Packed

STRATEGIES = ("state", "standard")
DEVICES = ("cpu", "cuda")


class ModelError(Exception):
    """No usable model: one line with cause and cure."""


@dataclass(frozen=True)
class Model:
    """A model ready to use."""

    name: str
    network: "Whisper"
    vocabulary: "Vocabulary"
    strategy: str  # which of STRATEGIES worked


def default_home() -> Path:
    """The folder with state/ and model/ that is used unless another is named."""
    return Path(os.environ.get("TRANSCRIBE_HOME") or RUNTIME.parent)


def find(home: Path, wanted: str | None) -> str:
    """The name of the model to use; if `wanted` is None, of the only one in `home`. Raises ModelError."""
    states = {path.stem for path in (home / "state").glob("*.safetensors")}
    names = sorted(states | {path.parent.name for path in (home / "model").glob("*/config.json")})
    if not names:
        raise ModelError(
            f"no model in {home}: neither state/NAME.safetensors nor model/NAME/config.json exists; "
            "give the folder that contains them with --home"
        )
    if wanted is None and len(names) > 1:
        raise ModelError(f"{len(names)} models in {home}; choose one with --model: {', '.join(names)}")
    if wanted is not None and wanted not in names:
        raise ModelError(f"no model {wanted} in {home}; choose one with --model: {', '.join(names)}")
    return wanted or names[0]


class Loading:
    """The loading of a model: started in the background, finished once torch is imported."""

    def __init__(self, home: Path, name: str, strategies: list[str], device: str, log: Log) -> None:
        """Start everything that does not need torch; returns at once. `device` may be "auto"."""
        self.home, self.name, self.strategies, self.device, self.log = home, name, strategies, device, log
        driver = device != "cpu" and gpu.prepare(log)
        self.reading: ReadAhead | None = None
        self._stated: Vocabulary | None = None  # from the state file
        if "state" in strategies:
            path = home / "state" / f"{name}.safetensors"
            self.reading = ReadAhead(path, "cuda" if driver else "cpu", log)

    def vocabulary(self) -> "Vocabulary | None":
        """The vocabulary from the state file, without torch; None if there is no usable state file."""
        from preheat.model.vocabulary import Vocabulary  # noqa: PLC0415  few runs need it this early

        if self.reading and self._stated is None:
            with suppress(StateError, MemoryError, OSError), self.reading.naming:
                self._stated = Vocabulary(self.reading.header().metadata)
        return self._stated

    def model(self) -> Model:
        """The model by the first strategy that works. Raises ModelError."""
        with self.log.phase("import torch"), enough_memory("torch cannot be imported"):
            torch = import_torch()
        with self.log.phase("import network"), enough_memory("the network cannot be imported"):
            from preheat.model import vocabulary, whisper  # noqa: F401, PLC0415  for `load`; here to be timed
            from preheat.weights import checkpoint  # noqa: PLC0415  needs torch
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ModelError("--device cuda: torch finds no GPU; check nvidia-smi, or use --device cpu")
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        reasons = []
        for strategy in self.strategies:
            try:
                with self.log.phase("load model"):
                    model = self.load(strategy)
            except (StateError, checkpoint.CheckpointError) as error:
                reasons.append(str(error))
            except Exception as error:  # too little memory, or a GPU that does not work
                short = memory.shortage(error)
                if short is None and not isinstance(error, RuntimeError):
                    raise
                cure = "check nvidia-smi, or use --device cpu"
                if self.device == "cpu" or (short and "CUDA" not in short):
                    cure = memory.CURE
                reasons.append(
                    f"{strategy} loading failed on {self.device}: {short or reason(error)}; {cure}"
                )
            else:
                seconds, dtype = self.log.seconds("load model"), str(model.network.dtype)
                how = f"{strategy} loading, {self.device}, {dtype.removeprefix('torch.')}"
                self.log.info(f"model {self.name} ready in {seconds:.2f} s: {how}")
                return model
            if strategy != self.strategies[-1]:
                warn(f"{reasons[-1]}; falling back to {self.strategies[-1]} loading")
        raise ModelError("; and ".join(reasons))

    def load(self, strategy: str) -> Model:
        """The model by one strategy. Raises StateError or CheckpointError, and what torch raises."""
        from preheat.model.vocabulary import Vocabulary  # noqa: PLC0415  there by now
        from preheat.model.whisper import Whisper  # noqa: PLC0415  there by now

        # A state file's missing metadata is noticed only here: `naming` adds the file to the error.
        with self.reading.naming if strategy == "state" and self.reading else nullcontext():
            tensors, metadata = self.pack(strategy)
            network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
            vocabulary = (self._stated if strategy == "state" else None) or Vocabulary(metadata)
            return Model(self.name, network, vocabulary, strategy)

    def pack(self, strategy: str) -> "Packed":
        """The tensors and the metadata by one strategy. Raises what `load` does."""
        import torch  # noqa: PLC0415  there by now

        from preheat.model import precision  # noqa: PLC0415  needs torch
        from preheat.weights import checkpoint, state  # noqa: PLC0415  there by now, or needs torch

        if strategy == "state" and self.reading:
            with nullcontext() if self.device == "cpu" else meanwhile(self._warm_up):
                return state.load(self.reading, self.device)
        # The same precision as that of a state file baked for this device.
        dtype = getattr(torch, precision.best_dtype(self.device))
        return checkpoint.pack(self.home / "model" / self.name, dtype, self.device)

    def _warm_up(self) -> None:
        """Call everything once on the GPU. Errors are ignored: the real calls meet them again."""
        import torch  # noqa: PLC0415  there by now

        from preheat.model import warmup  # noqa: PLC0415  needs torch

        with self.log.phase("warm up"), suppress(Exception):
            if self.reading and (vocabulary := self.vocabulary()):
                metadata = self.reading.header().metadata
                dims, dtype = Dimensions.from_json(metadata["dimensions"]), getattr(torch, metadata["dtype"])
                warmup.warm_up(dims, dtype, torch.device(self.device), vocabulary)


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turn an error in the block that means too little memory into a ModelError that begins with `what`."""
    try:
        yield
    except Exception as error:
        if short := memory.shortage(error):
            raise ModelError(f"{what}: {short}; {memory.CURE}") from error
        raise


def import_torch() -> Any:
    """Import torch and return it; --help, a wrong option or a missing file should not wait for it.

    A fifth of the time goes into torch._meta_registrations, for tensors with a shape but no data, which
    torch.compile and transformers use but nothing here does. So torch gets an empty module instead. The real
    one can be imported later, as checkpoint.py does.
    """
    name = "torch._meta_registrations"
    if "torch" not in sys.modules:
        sys.modules[name] = ModuleType(name)
        import torch  # noqa: PLC0415  as above

        del sys.modules[name]
        vars(torch).pop("_meta_registrations", None)
    return sys.modules["torch"]
