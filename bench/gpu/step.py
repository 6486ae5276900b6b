"""The decode step, as a CUDA graph and in eager mode: speed, equal tokens, random samples, memory.

Windows of 100 tokens are decoded from features. The time of a step is the total divided by the number of
steps. These models give the same tokens for any input, so equal tokens prove that the loop is right, but not
the attention, which attention.py and the tests with a trained model (own.py) check.
"""

import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from bench.gpu import ours
from bench.gpu.place import Place, Row

ROWS = (1, 8, 160)
SIZES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)  # numbers of rows, for the test of memory
HIGH_TEMPERATURE = 4.0  # a temperature at which even these very confident models give random tokens
TOGETHER = 16  # rows in all batches that are kept at a time
SPARE = 1 << 20  # bytes that may stay allocated


def run(place: Place) -> Iterator[Row]:
    """Run all checks with each model."""
    for shape in ours.shapes(place):
        log = ours.Log()
        decoder = ours.decoder(place, shape, log=log)
        expected: list[int] = []
        for rows in place.pick(ROWS, (1, 2)):
            yield from compare(place, shape, decoder, rows, expected)
        yield from side_by_side(place, shape, decoder, expected)
        yield from noise(place, decoder)
        yield from attention(place, shape, decoder)
        yield from memory(place, shape, decoder)
        for line in log.lines:
            yield {"problem": f"{shape}: {line}"}
        del decoder


def compare(place: Place, shape: str, decoder: Any, rows: int, expected: list[int]) -> Iterator[Row]:
    """Eager mode and graph, one after the other: the memory of two batches does not fit."""
    features = ours.features(place, decoder.network, rows)
    steps: dict[str, float] = {}
    for way in ("eager", "graph"):
        decoder.forget()
        decoder.graphs.working = place.gpu and way == "graph"
        first, times, said = 0.0, [], []
        for number in range(place.pick(4, 2)):
            seconds, tokens = decoded(place, decoder, features)
            said += tokens
            if number:
                times.append(seconds)
            else:
                first = seconds
        expected[:] = expected or said[0]
        if any(tokens != expected for tokens in said):
            yield {"problem": f"{shape}, {rows} rows, {way}: the tokens differ"}
        if decoder.graphs.working and any(batch.step.graph is None for batch in decoder.kept.values()):
            yield {"problem": f"{shape}, {rows} rows: no graph was captured"}
        steps[way] = min(times) / len(expected)
        row: Row = {"table": "decoding", "model": shape, "way": way, "rows": rows}
        row |= {"first, s": first, "s": min(times), "ms a step": 1e3 * steps[way]}
        yield row | {"tokens/s": rows / steps[way]}
    decoder.forget()
    ratio = steps["eager"] / steps["graph"]
    yield {"told": f"{shape}, {rows} rows: {1e3 * steps['graph']:.2f} ms a step, eager {ratio:.2f} times"}
    yield from place.absent("decoding", "capture")


def side_by_side(place: Place, shape: str, decoder: Any, expected: list[int]) -> Iterator[Row]:
    """Keep several batches, with unused rows, and use them in turn and at different temperatures."""
    size, decoder.size = decoder.size, TOGETHER
    for temperature in (0.0, HIGH_TEMPERATURE, 0.0):
        for rows in (1, 3, 5):
            features = ours.features(place, decoder.network, rows)
            for _ in range(place.pick(3, 1)):  # eager, captured, replayed
                said = decoded(place, decoder, features, temperature)[1]
                if not temperature and any(tokens != expected for tokens in said):
                    yield {"problem": f"{shape}, {rows} rows beside others: the tokens differ"}
    graphs = sum(batch.step.graph is not None for batch in decoder.kept.values())
    yield {"table": "batches kept", "model": shape, "batches": len(decoder.kept), "graphs": graphs}
    if len(decoder.kept) < 2 or (place.gpu and graphs < len(decoder.kept)):  # noqa: PLR2004  several
        yield {"problem": f"{shape}: {len(decoder.kept)} batches with {graphs} graphs were kept"}
    decoder.size = size
    decoder.forget()


def decoded(
    place: Place, decoder: Any, features: Tensor, temperature: float = 0.0
) -> tuple[float, list[list[int]]]:
    """Seconds, and the tokens of each row."""
    place.settle()
    started = time.perf_counter()
    results = decoder.decode_once(features, decoder.prompt("en", []), temperature)
    place.settle()
    return time.perf_counter() - started, [result.tokens for result in results]


def noise(place: Place, decoder: Any) -> Iterator[Row]:
    """A replayed graph must draw new random numbers each time, and for each row."""
    features = ours.features(place, decoder.network, place.pick(8, 2))
    said = []
    for _ in range(place.pick(3, 2)):
        said += [tuple(tokens) for tokens in decoded(place, decoder, features, HIGH_TEMPERATURE)[1]]
    if len(set(said)) < len(said):
        yield {"problem": f"of {len(said)} samples only {len(set(said))} differ"}
    row = {
        "table": "samples",
        "temperature": HIGH_TEMPERATURE,
        "drawn": len(said),
        "different": len(set(said)),
    }
    yield row | {"told": f"{len(set(said))} different of {len(said)} samples"}
    decoder.forget()


def attention(place: Place, shape: str, decoder: Any) -> Iterator[Row]:
    """The cost of cuDNN's attention in eager mode when the number of rows is new."""
    decoder.graphs.working = False
    for on in (True, False):
        times = []
        with place.cudnn(on):
            for rows in place.pick((6, 7), (1,)):
                features = ours.features(place, decoder.network, rows)
                times.append(decoded(place, decoder, features)[0])
                decoder.forget()
        row = {"table": "eager, new numbers of rows", "model": shape, "cuDNN": "on" if on else "off"}
        yield row | {"first, s": times[0], "second, s": times[-1]}
    decoder.graphs.working = place.gpu


def memory(place: Place, shape: str, decoder: Any) -> Iterator[Row]:
    """Batches of many sizes, one after the other, must not leak memory."""
    before = place.allocated()
    for rows in place.pick(SIZES, (1, 2)):
        decoded(place, decoder, ours.features(place, decoder.network, rows))
        held = place.allocated() - before
        row = {"table": "memory above the network's, MB", "model": shape, "rows": rows}
        yield row | {"held": held / 1e6}
    decoder.forget()
    left = place.allocated() - before
    yield {"told": f"{shape}: {left / 1e6:,.1f} MB remain of {len(SIZES)} sizes"}
    if left > SPARE:
        yield {"problem": f"{shape}: {left:,} bytes are never given back"}
