"""Where a step runs: on a GPU in full, or on the CPU with tiny sizes, to try the step itself.

Steps ask here for whatever the two do differently. Nothing up here needs torch: one step times its import.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Choice = TypeVar("Choice")
Row = dict[str, Any]  # a line of a table; see steps.py

# ruff: noqa: PLC0415  torch is imported where it is used, as above


@dataclass(frozen=True)
class Place:
    """A device, and a folder with room for the models."""

    device: str  # "cuda" or "cpu"
    scratch: Path

    @property
    def gpu(self) -> bool:
        """Whether it is the real thing."""
        return self.device == "cuda"

    def pick(self, full: Choice, tiny: Choice) -> Choice:
        """What is meant for a GPU, or what tries it."""
        return full if self.gpu else tiny

    @property
    def dtype(self) -> Any:
        """What networks compute in."""
        import torch

        return self.pick(torch.float16, torch.float32)

    def settle(self) -> None:
        """Wait for what the device was told to do."""
        if self.gpu:
            import torch

            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], times: int = 1) -> float:
        """How long it takes once, on average of several times without a pause."""
        self.settle()
        started = time.perf_counter()
        for _ in range(times):
            work()
        self.settle()
        return (time.perf_counter() - started) / times

    def first_and_steady(self, work: Callable[[], object], times: int) -> tuple[float, float]:
        """Seconds of the first call, and of one of those after it."""
        return self.seconds(work), self.seconds(work, times)

    def allocated(self) -> int:
        """Bytes of tensors on the device; 0 on the CPU, where nobody counts them."""
        if not self.gpu:
            return 0
        import torch

        return int(torch.cuda.memory_allocated())

    def captured(self, work: Callable[[], object]) -> Callable[[], object]:
        """A CUDA graph of it; on the CPU it is done as it is."""
        if not self.gpu:
            return work
        import torch

        for _ in range(2):
            work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def cudnn(self, on: bool) -> AbstractContextManager[None]:
        """Attention by cuDNN allowed or not in the block, beside all other ways."""
        if not self.gpu:
            return nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        ways = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        return sdpa_kernel([*ways, SDPBackend.CUDNN_ATTENTION] if on else ways)

    def absent(self, table: str, what: str) -> Iterable[Row]:
        """A row that says that something was left out, if it was."""
        if not self.gpu:
            yield {"table": table, "left out": f"{what}: not on the CPU"}
