"""A step over fixed tensors, replayed as a CUDA graph: one launch instead of hundreds."""

from collections.abc import Callable

import torch
from timing import Log, reason


class Step:
    """Call it with a function, always the same, that takes and returns nothing and changes tensors in place.

    On CUDA the first call runs it as it is and prepares the libraries, the second captures the graph, and
    every later one replays it. If capture fails, that is told once, and every call runs it as it is. On the
    CPU there is nothing to capture.

    It does not keep the function: a method of the object that keeps the step would make a circle of them, and
    the memory of both would be free only when the garbage collector comes by.
    """

    def __init__(self, device: torch.device, log: Log | None) -> None:
        self.log = log
        self.capturing = device.type == "cuda"
        self.warm = False
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        """Do the step."""
        if self.capturing and self.warm and self.graph is None:
            self.graph = self._capture(function)
            self.capturing = self.graph is not None
        if self.graph is not None:
            self.graph.replay()
        else:
            function()
            self.warm = True

    def _capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """The graph; capturing it does not do the step."""
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                function()
        except RuntimeError as error:
            if self.log:
                self.log.info(f"no CUDA graph for the decode step, going on without: {reason(error)}")
            return None
        return graph
