"""A step over fixed tensors, replayed as a CUDA graph: one launch instead of hundreds."""

from collections.abc import Callable

import torch
from timing import Log


class Step:
    """Call it as the function it wraps, which takes nothing, returns nothing and changes tensors in place.

    On CUDA the first call runs as it is and prepares the libraries, the second captures the graph, and every
    later one replays it. If capture fails, that is told once, and every call runs as it is. On the CPU there
    is nothing to capture.
    """

    def __init__(self, function: Callable[[], None], device: torch.device, log: Log | None) -> None:
        self.function, self.log = function, log
        self.capturing = device.type == "cuda"
        self.warm = False
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the step."""
        if self.capturing and self.warm and self.graph is None:
            self.graph = self._capture()
            self.capturing = self.graph is not None
        if self.graph is not None:
            self.graph.replay()
        else:
            self.function()
            self.warm = True

    def _capture(self) -> torch.cuda.CUDAGraph | None:
        """The graph; capturing it does not do the step."""
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.function()
        except RuntimeError as error:
            if self.log:
                reason = str(error).strip().partition("\n")[0]
                self.log.info(f"no CUDA graph for the decode step, going on without: {reason}")
            return None
        return graph
