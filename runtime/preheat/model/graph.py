"""Replays a step over fixed tensors as a CUDA graph: one kernel launch instead of hundreds."""

from collections.abc import Callable

import torch

from preheat.timing import Log, reason


class Graphs:
    """Captures steps as CUDA graphs. After a failure, which is logged, it does not try again."""

    def __init__(self, device: torch.device, log: Log | None) -> None:
        self.log = log
        self.working = device.type == "cuda"  # on the CPU there is nothing to capture

    def capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Capture a function's work as a graph, without doing it. Raises torch.OutOfMemoryError."""
        try:
            graph = torch.cuda.CUDAGraph()
            # In the default mode, "global", certain CUDA calls of other threads would make the capture fail.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                function()
        except torch.OutOfMemoryError:  # the caller retries with a smaller batch
            self._let_go()
            raise
        except RuntimeError as error:
            self._let_go()
            self.working = False
            if self.log:
                self.log.info(f"no CUDA graph for the decode step, continuing without: {reason(error)}")
            return None
        return graph

    def _let_go(self) -> None:
        """Free the random number generators from a failed capture.

        Their state may stay marked as being captured (torch 2.11 and before), and then cannot be used. A
        clone of the state is not marked.
        """
        for generator in torch.cuda.default_generators:  # empty until CUDA is initialised
            generator.graphsafe_set_state(generator.clone_state())


class Step:
    """Call it with a function, always the same, that takes and returns nothing and changes tensors in place.

    On CUDA the first call runs the function directly, which initialises the libraries. The second captures
    the graph and replays it, as every later one does. On the CPU, or after a failed capture, every call runs
    the function directly.

    The function is not stored: it is usually a method of the object that holds the step, and a reference
    cycle would keep the memory of both until the garbage collector runs.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.warm = False
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        """Do the step."""
        if self.warm and self.graph is None and self.graphs.working:
            self.graph = self.graphs.capture(function)
        # No replay after a failed capture: that may have corrupted the generator state that this graph uses.
        if self.graph is not None and self.graphs.working:
            self.graph.replay()
        else:
            function()
            self.warm = True
