"""A step over fixed tensors, replayed as a CUDA graph: one launch instead of hundreds."""

from collections.abc import Callable

import torch

from preheat.timing import Log, reason


class Graphs:
    """Captures steps as CUDA graphs. Where that fails once it is told, and not tried again."""

    def __init__(self, device: torch.device, log: Log | None) -> None:
        self.log = log
        self.working = device.type == "cuda"  # on the CPU there is nothing to capture

    def capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """The graph of what a function does; it is not done yet. Raises torch.OutOfMemoryError."""
        try:
            graph = torch.cuda.CUDAGraph()
            # In the usual mode a CUDA call of any other thread would make it fail.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                function()
        except torch.OutOfMemoryError:  # a smaller batch is the cure
            self._let_go()
            raise
        except RuntimeError as error:
            self._let_go()
            self.working = False
            if self.log:
                self.log.info(f"no CUDA graph for the decode step, going on without: {reason(error)}")
            return None
        return graph

    def _let_go(self) -> None:
        """Take the random numbers from what failed to be captured.

        Their generator's state may believe for ever that it is being captured (torch 2.11 and before), and
        refuse to be used; a copy of it does not.
        """
        for generator in torch.cuda.default_generators:  # none as long as CUDA is not in use
            generator.graphsafe_set_state(generator.clone_state())


class Step:
    """Call it with a function, always the same, that takes and returns nothing and changes tensors in place.

    On CUDA the first call runs it as it is and prepares the libraries, the second captures the graph, and
    every later one replays it. Where nothing is captured, or a capture has failed, each runs it as it is.

    It does not keep the function: a method of the object that keeps the step would make a circle of them, and
    the memory of both would be free only when the garbage collector comes by.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.warm = False
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        """Do the step."""
        if self.warm and self.graph is None and self.graphs.working:
            self.graph = self.graphs.capture(function)
        # A graph may draw from the random numbers that a failed capture of another has spoilt.
        if self.graph is not None and self.graphs.working:
            self.graph.replay()
        else:
            function()
            self.warm = True
