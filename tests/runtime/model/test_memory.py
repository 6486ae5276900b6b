"""Memory is freed as soon as it is not needed, and no more is used than `needed` has calculated."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from preheat.audio import audiofile
from preheat.audio.vad import Span
from preheat.model import batched, warping
from preheat.model.decoding import Batch, Decoder
from preheat.model.layout import Dimensions, layout
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.options import Options
from preheat.weights import checkpoint
from tests.runtime.vocabularies import metadata

SPANS = [Span(0, 16_000 * 20), Span(16_000 * 41, 16_000 * 45), Span(16_000 * 58, 16_000 * 72)]

# Whisper tiny with a tenth of the window and of the text, and a third of the width and of the vocabulary, so
# that the proportions of memory are realistic.
SCALED = Dimensions(80, 128, 4, 2, 512, 150, 4, 2, 512, 44, 17_000)
WINDOW = 3 * 16_000  # samples


@pytest.fixture(autouse=True)
def _no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def sound(samples: Path) -> Tensor:
    """A recording, of which SPANS are parts."""
    return torch.from_numpy(audiofile.decode(samples / "long.flac").samples)


@pytest.fixture
def decoder(checkpoint_folder: Path) -> Decoder:
    """The fixture model; three windows at a time."""
    tensors, metadata = checkpoint.pack(checkpoint_folder, torch.float32)
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    return Decoder(network, Vocabulary(metadata), Options(language="en", temperature=(0.0,)), size=3)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Batch]]:
    """All batches that are made; fails if one is made before the earlier ones are freed."""
    made: list[weakref.ref[Batch]] = []
    initialise = Batch.__init__

    def note(self: Batch, *arguments: Any) -> None:
        assert [batch() for batch in made] == [None] * len(made)
        made.append(weakref.ref(self))
        initialise(self, *arguments)

    monkeypatch.setattr(Batch, "__init__", note)
    return made


def test_what_is_forgotten_is_gone(
    decoder: Decoder, sound: Tensor, batches: list[weakref.ref[Batch]]
) -> None:
    features = batched.encode(decoder.network, sound, SPANS)
    decoder.decode(features, decoder.prompt("en", []))
    (batch,) = batches
    assert batch() is not None  # kept for the next one
    decoder.forget()
    assert batch() is None


def test_a_batch_is_gone_when_windows_are_tried_again(
    decoder: Decoder, sound: Tensor, batches: list[weakref.ref[Batch]]
) -> None:
    """No result passes: all temperatures above 0 share one batch, which is kept."""
    decoder.options = Options(language="en", temperature=(0.0, 0.2, 0.4), logprob_threshold=0.0, best_of=2)
    features = batched.encode(decoder.network, sound, SPANS)
    decoder.decode(features, decoder.prompt("en", []))
    assert [batch() is None for batch in batches] == [True, False]


def test_after_running_out_of_memory_nothing_is_left(
    decoder: Decoder, sound: Tensor, batches: list[weakref.ref[Batch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the batch nor the features, not even through the traceback, when the cache is emptied."""
    begin, forget = Batch.begin, Decoder.forget
    features: list[weakref.ref[Tensor]] = []
    checks = 0

    def begin_or_fail(self: Batch, heard: Tensor, prompt: list[int], temperature: float) -> list[float]:
        if len(heard) > 1:
            features.append(weakref.ref(heard))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return begin(self, heard, prompt, temperature)

    def forget_and_look(self: Decoder) -> None:
        nonlocal checks
        checks += 1
        forget(self)
        held: list[weakref.ref[Any]] = [*batches, *features]
        assert [thing() for thing in held] == [None] * (2 * checks)

    monkeypatch.setattr(Batch, "begin", begin_or_fail)
    monkeypatch.setattr(Decoder, "forget", forget_and_look)
    assert batched.transcribe(decoder, sound, SPANS).segments
    assert checks == 2 and decoder.size == 1


class Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # it is torch's
    """Counts the bytes of all tensors that operations within it make."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.free, storage._cdata, storage.nbytes())
        return made

    def free(self, storage: int, size: int) -> None:
        self.known.remove(storage)
        self.live -= size


@pytest.mark.parametrize(
    "options",
    [
        Options(language="en", temperature=(0.0,)),
        Options(language="en", temperature=(0.0,), initial_prompt="alpha " * 9),
        Options(language="en", temperature=(0.0,), word_timestamps=True),
        Options(language="en", temperature=(0.4,)),
    ],
    ids=["plain", "after a prompt", "with words", "of several samples"],
)
def test_no_more_memory_is_used_than_is_asked_for(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch before has left its cache, as in a long recording."""
    # Without log-mel: its memory does not depend on the network's size, and would hide the rest.
    monkeypatch.setattr(batched, "log_mel", lambda sound, *_: torch.randn(len(sound), 80, 300))
    torch.manual_seed(1)
    tensors = {name: torch.randn(shape) / 50 for name, shape in layout(SCALED).items()}
    halves = {name: tensor.half() for name, tensor in tensors.items() if not name.startswith("audio.")}
    network = Whisper(tensors | halves, SCALED)
    vocabulary = Vocabulary(metadata())
    # The decoder writes as many tokens as there is room for.
    vocabulary.suppressed += [vocabulary.end, *range(vocabulary.first_timestamp + 1, SCALED.vocab_size)]
    decoder = Decoder(network, vocabulary, options, size=16)
    spans = [Span(i * WINDOW, (i + 1) * WINDOW) for i in range(16)]
    sound = torch.randn(16 * WINDOW) / 10
    with Memory() as memory:
        for _ in range(2):
            segments, _ = batched.decode(decoder, sound, spans, "en")
    assert len(segments) == 16 and min(len(segment.tokens) for segment in segments) > 15
    assert memory.peak > 1e7
    assert memory.peak <= 16 * batched.needed(network)


def test_many_alignment_heads_take_no_more_than_room_for_themselves() -> None:
    """If a checkpoint names no alignment heads, half of all are used: 320 in a large model."""
    matches = torch.randn(64, 1, 20, 150)
    with Memory() as memory:
        warping.attention(list(matches), [(20, 150)])
    assert memory.peak < 8 * matches.nbytes
