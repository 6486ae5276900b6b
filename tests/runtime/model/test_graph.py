"""graph.py: a step runs once per call, captured or not, with the same results."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.vad import Span
from preheat.formats import to_json
from preheat.model import batched, decoding, sequential
from preheat.model.decoding import Batch, Decoder, Kind
from preheat.model.features import log_mel
from preheat.model.graph import Graphs, Step
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.options import Options
from preheat.weights import checkpoint

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Messages:
    """A log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.info = self.lines.append


class Counter:
    """What a step is done to."""

    def __init__(self) -> None:
        self.value = torch.zeros(1)
        self.log: Any = Messages()

    def add(self) -> None:
        self.value += 1


def test_on_the_cpu_each_call_goes_straight_through() -> None:
    counter = Counter()
    step = Step(Graphs(CPU, counter.log))
    for wanted in range(1, 6):
        step(counter.add)
        assert counter.value == wanted
    assert not step.graphs.working and step.graph is None and counter.log.lines == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="it needs a machine where capture fails")
def test_where_capture_fails_it_goes_on_without() -> None:
    """Logged once, in one line; no step is skipped or done twice."""
    counter = Counter()
    step = Step(Graphs(CUDA, counter.log))
    assert step.graphs.working
    for wanted in range(1, 6):
        step(counter.add)
        assert counter.value == wanted
    (line,) = counter.log.lines
    assert line.startswith("no CUDA graph for the decode step, continuing without: ")
    assert "\n" not in line and not line.endswith(": ")
    assert not step.graphs.working


class Recorded:
    """A stand-in for a CUDA graph: replays the operations that were recorded."""

    made: list["Recorded"]

    def __init__(self) -> None:
        self.replays = 0
        self.counter = Counter()
        Recorded.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        self.counter.add()


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A counter with a stand-in for CUDA's capture: while capturing, it does not change."""
    Recorded.made = []
    counter = Counter()

    @contextmanager
    def capture(graph: Recorded, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local", "no call of another thread makes it fail"
        graph.counter = counter
        before = counter.value.clone()
        yield
        assert counter.value == before + 1, "exactly one step is captured"
        counter.value.copy_(before)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return counter


def test_the_second_call_captures_and_later_ones_replay(recording: Counter) -> None:
    step = Step(Graphs(CUDA, recording.log))
    for wanted in range(1, 6):
        step(recording.add)
        assert recording.value == wanted
        assert len(Recorded.made) == (wanted > 1)
    assert Recorded.made[0].replays == 4
    assert recording.log.lines == []


def test_an_operation_that_cannot_be_captured_is_no_error(
    recording: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For instance an allocation in another stream, or a sync with the host; with or without a log.

    It is tried and logged once for all steps.
    """

    @contextmanager
    def capture(graph: Recorded, capture_error_mode: str) -> Iterator[None]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore about it")
        yield

    monkeypatch.setattr(torch.cuda, "graph", capture)
    for log in (recording.log, None):
        graphs = Graphs(CUDA, log)
        for step in (Step(graphs), Step(graphs)):
            for _ in range(5):
                step(recording.add)
    assert recording.value == 20 and len(Recorded.made) == 2
    (line,) = recording.log.lines
    assert line.endswith("without: CUDA error: operation not permitted when stream is capturing")


def test_running_out_of_memory_is_not_taken_for_it(recording: Counter) -> None:
    """batched.py must get the error, at once, and the next batch may be captured."""
    calls = 0

    def function() -> None:
        nonlocal calls
        calls += 1
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphs = Graphs(CUDA, recording.log)
    step = Step(graphs)
    for wanted in (1, 2):
        with pytest.raises(torch.OutOfMemoryError):
            step(function)
        assert (calls, len(Recorded.made)) == (wanted, wanted - 1)
        step.warm = True
    assert graphs.working and recording.log.lines == []


class Generator:
    """A stand-in for CUDA's generator of random numbers."""

    def __init__(self) -> None:
        self.state = "stuck"

    def clone_state(self) -> str:
        return f"not {self.state}"

    def graphsafe_set_state(self, state: str) -> None:
        self.state = state


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted"), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_a_failed_capture_lets_go_of_the_random_numbers(
    error: Exception, recording: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, states = Generator(), []

    def fail() -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    graphs = Graphs(CUDA, None)
    graphs.capture(recording.add)
    states.append(generator.state)
    if isinstance(error, torch.OutOfMemoryError):
        with pytest.raises(torch.OutOfMemoryError):
            graphs.capture(fail)
    else:
        assert graphs.capture(fail) is None
    assert [*states, generator.state] == ["stuck", "not stuck"]


def test_after_a_failed_capture_no_other_graph_is_replayed(recording: Counter) -> None:
    """Its generator's state may be unusable; the step runs without a graph again."""

    def fail() -> None:
        raise RuntimeError("operation not permitted")

    graphs = Graphs(CUDA, None)
    good, bad = Step(graphs), Step(graphs)
    for _ in range(3):
        good(recording.add)
    graph = Recorded.made[0]
    assert graph.replays == 2
    bad.warm = True
    with pytest.raises(RuntimeError):  # as it is, it fails too
        bad(fail)
    good(recording.add)
    assert recording.value == 4 and graph.replays == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="it needs a machine where capture fails")
def test_where_capture_fails_no_batch_tries_again(checkpoint_folder: Path, samples: Path) -> None:
    """And attention covers only the filled part of the cache then."""
    decoder = decoder_on("cpu", checkpoint_folder)
    features, prompt = heard(decoder, samples), decoder.prompt("en", [])
    wanted = decoder.decode_once(features, prompt)
    log: Any = Messages()
    decoder.graphs = Graphs(CUDA, log)
    for captured in (True, False):
        decoder.forget()
        found = decoder.decode_once(features, prompt)
        assert [result.tokens for result in found] == [result.tokens for result in wanted]
        (batch,) = decoder.kept.values()
        assert batch.captured == captured
        assert len(log.lines) == 1


@pytest.mark.parametrize("captured", [False, True])
def test_numbers_that_are_none_stay_in_their_window(
    captured: bool, checkpoint_folder: Path, samples: Path
) -> None:
    """NaNs fail every threshold, and do not affect the next window of their row."""
    decoder = decoder_on("cpu", checkpoint_folder)
    features, prompt = heard(decoder, samples), decoder.prompt("en", [])
    decoder.graphs.working = captured
    wanted = decoder.decode_once(features, prompt)
    broken = features.clone()
    broken[1] = float("nan")
    found = decoder.decode_once(broken, prompt)
    assert found[::2] == wanted[::2]
    assert found[1].fails(Options(compression_ratio_threshold=None)) and not found[1].silent(Options())
    assert decoder.decode_once(features, prompt) == wanted


@pytest.mark.parametrize(("way", "words"), [("batched", False), ("batched", True), ("sequential", False)])
def test_json_holds_no_numbers_that_are_none(
    way: str, words: bool, checkpoint_folder: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_on("cpu", checkpoint_folder)
    decoder.options = Options(language="en", word_timestamps=words, temperature=(0.0, 0.4))
    encode = decoder.network.encode
    monkeypatch.setattr(decoder.network, "encode", lambda mel: encode(mel) * float("nan"))
    sound = torch.from_numpy(audiofile.decode(samples / "short.flac").samples)
    if way == "batched":
        transcript = batched.transcribe(decoder, sound, [Span(0, len(sound))])
    else:
        transcript = sequential.transcribe(decoder, sound, [Span(0, len(sound))])

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    document = json.loads(to_json(transcript), parse_constant=refuse)
    assert document["segments"]
    assert all(segment["temperature"] == 0.4 for segment in document["segments"])
    assert all(
        word["probability"] == 0 for segment in document["segments"] for word in segment.get("words", [])
    )


def decoder_on(device: str, folder: Path) -> Decoder:
    """The fixture model, float32 anywhere."""
    tensors, metadata = checkpoint.pack(folder, torch.float32, device)
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    return Decoder(network, Vocabulary(metadata))


def heard(decoder: Decoder, samples: Path) -> Tensor:
    """Features of three windows of the long sample."""
    sound = audiofile.decode(samples / "long.flac").samples[: 75 * SAMPLE_RATE].reshape(3, -1)
    network = decoder.network
    filled = torch.from_numpy(np.pad(sound, ((0, 0), (0, 5 * SAMPLE_RATE))))
    return network.encode(log_mel(filled, network.window, network.filters))


Found = list[tuple[list[int], float]]


def finish(batch: Batch, features: Tensor, prompt: list[int]) -> Found:
    """All tokens of each row and their log-probability."""
    with torch.inference_mode():
        batch.begin(features, prompt)
        return batch.finish()


def assert_same(found: Found, wanted: Found) -> None:
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in wanted]
    assert [logprob for _, logprob in found] == pytest.approx([p for _, p in wanted], abs=1e-2)


def test_the_step_that_is_captured_says_what_the_other_does(checkpoint_folder: Path, samples: Path) -> None:
    """Over the whole cache with a mask; here without a capture, and twice, as a graph is reused."""
    decoder = decoder_on("cpu", checkpoint_folder)
    features, prompt = heard(decoder, samples), decoder.prompt("en", [])
    kind = Kind(len(features), decoding.capacity(decoder.network, len(prompt)), True)
    wanted = finish(Batch(decoder.network, decoder.vocabulary, kind, decoder.graphs), features, prompt)
    assert all(len(set(tokens)) > 8 for tokens, _ in wanted)
    batch = Batch(decoder.network, decoder.vocabulary, kind, decoder.graphs)
    batch.captured = True
    assert_same(finish(batch, features.flip(0), prompt), wanted[::-1])
    assert_same(finish(batch, features, prompt), wanted)
    longer = [*decoder.vocabulary.previous(wanted[0][0][:20], 448), *prompt]
    assert finish(batch, features, longer) != wanted
    assert_same(finish(batch, features, prompt), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU can capture a graph")
def test_captured_steps_say_what_eager_ones_do(checkpoint_folder: Path, samples: Path) -> None:
    decoder = decoder_on("cuda", checkpoint_folder)
    features, prompt = heard(decoder, samples), decoder.prompt("en", [])
    kind = Kind(len(features), decoding.capacity(decoder.network, len(prompt)), True)
    eager = Batch(decoder.network, decoder.vocabulary, kind, Graphs(CPU, None))
    wanted = finish(eager, features, prompt)
    log: Any = Messages()
    batch = Batch(decoder.network, decoder.vocabulary, kind, Graphs(CUDA, log))
    for _ in range(2):  # the second time, the graph of the first is replayed from the start
        assert_same(finish(batch, features.flip(0), prompt), wanted[::-1])
        assert_same(finish(batch, features, prompt), wanted)
    assert batch.step.graph is not None and log.lines == []
    at_home = decoder_on("cpu", checkpoint_folder)
    near = finish(Batch(at_home.network, at_home.vocabulary, kind, at_home.graphs), features.cpu(), prompt)
    assert_same(wanted, near)
