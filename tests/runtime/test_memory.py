"""What is no longer needed is given back at once: on a GPU nobody waits for the garbage collector."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audio
import batched
import checkpoint
import pytest
import torch
from decoding import Batch, Decoder
from layout import Dimensions
from options import Options
from torch import Tensor
from vad import Stretch
from vocabulary import Vocabulary
from whisper import Whisper

STRETCHES = [Stretch(0, 16_000 * 20), Stretch(16_000 * 41, 16_000 * 45), Stretch(16_000 * 58, 16_000 * 72)]


@pytest.fixture(autouse=True)
def _no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def sound(samples: Path) -> Tensor:
    """A recording, of which STRETCHES are parts."""
    return torch.from_numpy(audio.decode(samples / "long.flac"))


@pytest.fixture
def decoder(checkpoint_folder: Path) -> Decoder:
    """The fixture model; three windows at a time."""
    tensors, metadata = checkpoint.pack(checkpoint_folder, torch.float32)
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    return Decoder(network, Vocabulary(metadata), Options(temperature=(0.0,)), size=3)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Batch]]:
    """All that are made; none may be before those before it are gone."""
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
    features = batched.encode(decoder.network, sound, STRETCHES)
    decoder.decode(features, decoder.prompt("en", []))
    (batch,) = batches
    assert batch() is not None  # kept for the next one
    decoder.forget()
    assert batch() is None


def test_a_batch_is_gone_when_windows_are_tried_again(
    decoder: Decoder, sound: Tensor, batches: list[weakref.ref[Batch]]
) -> None:
    """Nothing is probable enough: each temperature has a batch of its own, and the last one is kept."""
    decoder.options = Options(temperature=(0.0, 0.2, 0.4), logprob_threshold=0.0, best_of=2)
    features = batched.encode(decoder.network, sound, STRETCHES)
    decoder.decode(features, decoder.prompt("en", []))
    assert len(batches) >= 3
    assert [batch() is None for batch in batches] == [True] * (len(batches) - 1) + [False]


def test_after_running_out_of_memory_nothing_is_left(
    decoder: Decoder, sound: Tensor, batches: list[weakref.ref[Batch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the batch nor the features: not even where the traceback leads, when memory is given back."""
    begin, forget = Batch.begin, Decoder.forget
    features: list[weakref.ref[Tensor]] = []
    checks = 0

    def begin_or_fail(self: Batch, heard: Tensor, prompt: list[int]) -> list[float]:
        if len(heard) > 1:
            features.append(weakref.ref(heard))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return begin(self, heard, prompt)

    def forget_and_look(self: Decoder) -> None:
        nonlocal checks
        checks += 1
        forget(self)
        held: list[weakref.ref[Any]] = [*batches, *features]
        assert [thing() for thing in held] == [None] * (2 * checks)

    monkeypatch.setattr(Batch, "begin", begin_or_fail)
    monkeypatch.setattr(Decoder, "forget", forget_and_look)
    assert batched.transcribe(decoder, sound, STRETCHES, "en").segments
    assert checks == 2 and decoder.size == 1
