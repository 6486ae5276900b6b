"""First calls in this fresh process, then the phases of whole `transcribe` processes."""

import time
from collections.abc import Callable, Iterator

from bench.gpu import ours
from bench.gpu.place import Place, Row

RUNS = 3


def run(place: Place) -> Iterator[Row]:
    """First calls first, as they can be measured only once in a process; then whole processes."""
    yield from firsts(place)
    for shape in ours.shapes(place):
        yield from processes(place, shape)


def firsts(place: Place) -> Iterator[Row]:
    """The time that each library needs for its first result."""
    started = time.perf_counter()
    import torch  # noqa: PLC0415  to time it
    import torch.nn.functional as F  # noqa: N812, PLC0415  torch users know it by no other name

    yield row("import torch", time.perf_counter() - started, None)
    # Creates the CUDA context, so that its time is not counted for what follows.
    yield row("context, a tensor", place.seconds(lambda: torch.zeros(1, device=place.device)), None)
    random = {"device": place.device, "dtype": place.dtype}
    side = place.pick(1280, 64)
    x, weight = torch.randn(64, side, **random), torch.randn(side, side, **random)
    sound, window = torch.randn(1, 16000, device=place.device), torch.hann_window(400, device=place.device)
    image, filters = torch.randn(1, side, 3000, **random), torch.randn(side, side, 3, **random)
    heads = torch.randn(1, side // 64, 1500, 64, **random)
    rows = x.float()
    works: dict[str, Callable[[], object]] = {
        "product (cuBLAS)": lambda: x @ weight,
        "product with a bias (cuBLASLt)": lambda: F.linear(x, weight, weight[0]),
        "spectrum (cuFFT)": lambda: torch.stft(sound, 400, 160, window=window, return_complex=True),
        "convolution (cuDNN)": lambda: F.conv1d(image, filters, padding=1),
        "attention": lambda: F.scaled_dot_product_attention(heads, heads, heads),
        "layer norm": lambda: F.layer_norm(x, (side,)),
        "gelu": lambda: F.gelu(x),
        "log-softmax": lambda: rows.log_softmax(dim=-1),
        "noise": lambda: torch.empty_like(rows).exponential_(),
        "argmax": lambda: rows.argmax(dim=-1),
    }
    torch.backends.cuda.enable_cudnn_sdp(False)  # as the runtime does
    for name, work in works.items():
        yield row(name, *place.first_and_steady(work, 3))
    started = time.perf_counter()
    replay = place.captured(lambda: x @ weight)
    yield row("capture of a product", time.perf_counter() - started, place.seconds(replay))
    yield from place.absent("first calls, ms", "context, libraries and capture of CUDA")


def row(name: str, first: float, steady: float | None) -> Row:
    """A row of the table of first calls."""
    found: Row = {"table": "first calls, ms", "what": name, "first": 1e3 * first}
    return found if steady is None else found | {"then": 1e3 * steady}


def processes(place: Place, shape: str) -> Iterator[Row]:
    """`transcribe` with a warm page cache: the duration of each phase in seconds."""
    ready, words = [], []
    for number in range(place.pick(RUNS, 1)):
        facts, document = ours.transcribe(place, shape, ours.SHORT)
        ready.append(facts["ready_s"])
        words.append(facts["total_s"])
        phases = {phase["name"]: phase["end_s"] - phase["start_s"] for phase in facts["phases"]}
        yield {"table": f"{shape}: phases, s", "run": str(number)} | phases
        begins = {phase["name"]: phase["start_s"] for phase in facts["phases"]}
        yield (
            {"table": f"{shape}: when they begin, s", "run": str(number)}
            | begins
            | {
                "ready": facts["ready_s"],
                "words": facts["total_s"],
            }
        )
        if not document["text"].split():
            yield {"problem": f"{shape} says nothing"}
        if facts["device"].partition(":")[0] != place.device:
            yield {"problem": f"{shape} was on {facts['device']}"}
    yield {
        "finding": f"{shape}: ready {sorted(ready)[len(ready) // 2]:.2f} s, words {min(words):.2f} s at best"
    }
