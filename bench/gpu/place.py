"""Where a step runs: on a GPU in full, or on the CPU with tiny sizes, to try the step itself.

It has everything that differs between the two. torch is imported in methods only: one step times its import.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Choice = TypeVar("Choice")
Row = dict[str, Any]  # a line of a table; see steps.py

# ruff: noqa: PLC0415  torch is imported where it is used (see the docstring)


@dataclass(frozen=True)
class Place:
    """A device, and a folder with room for the models."""

    device: str  # "cuda" or "cpu"
    scratch: Path

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def pick(self, full: Choice, tiny: Choice) -> Choice:
        """The full size on a GPU, the tiny one on the CPU."""
        return full if self.gpu else tiny

    @property
    def dtype(self) -> Any:
        """The type that networks compute in."""
        import torch

        return self.pick(torch.float16, torch.float32)

    def settle(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.gpu:
            import torch

            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], times: int = 1) -> float:
        """Seconds per call, averaged over `times` calls without synchronising in between."""
        self.settle()
        started = time.perf_counter()
        for _ in range(times):
            work()
        self.settle()
        return (time.perf_counter() - started) / times

    def first_and_steady(self, work: Callable[[], object], times: int) -> tuple[float, float]:
        """Seconds of the first call, and the average of the `times` calls after it."""
        return self.seconds(work), self.seconds(work, times)

    def allocated(self) -> int:
        """Bytes of tensors on the device; 0 on the CPU, where torch does not count them."""
        if not self.gpu:
            return 0
        import torch

        return int(torch.cuda.memory_allocated())

    def captured(self, work: Callable[[], object]) -> Callable[[], object]:
        """A function that replays `work` as a CUDA graph; on the CPU, `work` itself."""
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
        """Allow or forbid cuDNN's attention in the block; all other backends are allowed."""
        if not self.gpu:
            return nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        ways = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        return sdpa_kernel([*ways, SDPBackend.CUDNN_ATTENTION] if on else ways)

    def absent(self, table: str, what: str) -> Iterable[Row]:
        """A row that says what is left out on the CPU; none on a GPU."""
        if not self.gpu:
            yield {"table": table, "left out": f"{what}: not on the CPU"}
