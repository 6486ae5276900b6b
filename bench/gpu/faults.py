"""Failures on purpose: too little memory for a batch, and a CUDA graph capture that fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.gpu import ours
from bench.gpu.place import Place, Row
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.vad import Span
from preheat.model import batched
from preheat.model.graph import Graphs

SECONDS = 24  # of a window


def run(place: Place) -> Iterator[Row]:
    """Run both with the smaller model."""
    log = ours.Log()
    decoder = ours.decoder(place, ours.shapes(place)[0], place.pick(64, 4), log)
    yield from memory(place, decoder, log)
    log.lines.clear()
    yield from capture(place, decoder, log)


def memory(place: Place, decoder: Any, log: ours.Log) -> Iterator[Row]:
    """With half the memory that a batch needs, it must continue with fewer windows and give the same text."""
    count = decoder.size
    length = SECONDS * SAMPLE_RATE
    samples = torch.randn(count * length) / 10
    speech = [Span(i * length, (i + 1) * length) for i in range(count)]

    def texts() -> list[str]:
        return [segment.text for segment in batched.transcribe(decoder, samples, speech).segments]

    wanted = texts()
    decoder.forget()
    with scarce(place, decoder, count // 2 * batched.needed(decoder.network)):
        found = texts()
    decoder.forget()
    reported = [line for line in log.lines if "out of memory" in line]
    yield {"table": "out of memory", "windows": count, "went on with": decoder.size}
    yield {"finding": "; ".join(reported)}
    if found != wanted:
        yield {"problem": "after a want of memory the text is another"}
    if not reported or not decoder.size < count:
        yield {"problem": f"no want of memory was met: {log.lines}"}
    decoder.size = count
    if texts() != wanted:
        yield {"problem": "with memory again the text is another"}
    decoder.forget()


@contextmanager
def scarce(place: Place, decoder: Any, room: int) -> Iterator[None]:
    """Leave `room` bytes for tensors beside the network; on the CPU, the encoder fails above half a batch."""
    if place.gpu:
        share = (torch.cuda.memory_allocated() + room) / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    encode = decoder.network.encode
    most = decoder.size // 2

    def limited(mel: Any) -> Any:
        if len(mel) > most:
            raise MemoryError("as if there were no more")
        return encode(mel)

    decoder.network.encode = limited
    try:
        yield
    finally:
        del decoder.network.encode


def capture(place: Place, decoder: Any, log: ours.Log) -> Iterator[Row]:
    """A step that copies to the host cannot be captured.

    That must be reported once, the tokens must be the same, and the generator must work as before.
    """
    features = ours.features(place, decoder.network, 2)
    prompt = decoder.prompt("en", [])

    def tokens() -> list[list[int]]:
        return [result.tokens for result in decoder.decode_once(features, prompt)]

    wanted = tokens()
    decoder.forget()
    decoder.graphs = Graphs(torch.device("cuda"), log)  # on the CPU nothing is captured
    step = decoder.network.step

    def looking(*arguments: Any, **options: Any) -> Any:
        logits = step(*arguments, **options)
        if place.gpu and torch.cuda.is_current_stream_capturing():
            logits.cpu()
        return logits

    decoder.network.step = looking
    try:
        found = [tokens() for _ in range(2)]
    finally:
        del decoder.network.step
    reported = [line for line in log.lines if "no CUDA graph" in line]
    yield {"finding": "; ".join(log.lines)}
    yield from place.absent("after a failed capture", "a capture that begins and fails")
    if any(said != wanted for said in found):
        yield {"problem": "after a failed capture the tokens are others"}
    if len(reported) != 1:
        yield {"problem": f"a failed capture was reported {len(reported)} times"}
    yield from usable(
        place,
        decoder,
        {"memory given back": decoder.forget, "noise": noise(place), "another capture": another(place)},
    )


def usable(place: Place, decoder: Any, works: dict[str, Callable[[], object]]) -> Iterator[Row]:
    """Check that things which a failed capture may have broken still work."""
    for name, work in works.items():
        try:
            work()
            place.settle()
        except RuntimeError as error:
            yield {"problem": f"after a failed capture, {name}: {str(error).partition(chr(10))[0]}"}
        else:
            yield {"table": "after a failed capture", "what": name, "works": True}


def noise(place: Place) -> Callable[[], object]:
    """A call of torch's random generator."""
    return lambda: torch.empty(8, device=place.device).exponential_()


def another(place: Place) -> Callable[[], object]:
    """A capture that should succeed."""
    x = torch.ones(8, device=place.device)
    return lambda: place.seconds(place.captured(lambda: x + 1))
