"""batched.py with a perfect model: every word of a recording appears once and in order."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from preheat import memory
from preheat.audio import vad
from preheat.audio.constants import FRAMES_PER_SECOND, HOP_LENGTH, SAMPLE_RATE
from preheat.audio.vad import Span
from preheat.model import batched
from preheat.model.decoding import Decoder, Result
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.options import Options
from preheat.transcript import Transcript
from tests.runtime.vocabularies import encode, metadata

WINDOW = 3000  # log-mel frames, 10 ms each
OVERHEARD = 10  # frames: how much of a word's beginning may be missing
LARGE = Dimensions(128, 1280, 32, 20, 5120, 1500, 32, 20, 5120, 448, 51866)

Word = tuple[int, int, str]  # first and last frame, what is said


class Perfect(Decoder):
    """Decodes perfectly: samples made by `recording` contain their own frame numbers.

    Its output is what Whisper is trained for: complete words, then the start of one that the window cuts off.
    It recognises a word whose first tenth of a second is missing, but not one with less than that in the
    window.
    """

    def __init__(self, said: list[Word], size: int = 16, options: Options | None = None) -> None:
        dims = SimpleNamespace(max_source_positions=WINDOW // 2, max_target_positions=448)
        network: Any = SimpleNamespace(
            dims=dims, encode=lambda mel: mel, window=None, filters=None, device=torch.device("cpu")
        )
        super().__init__(network, Vocabulary(metadata()), options or Options(language="en"), size)
        self.said = said
        self.batches: list[int] = []  # how many windows each was of
        self.windows: list[tuple[int, int]] = []  # first and last frame of each
        self.prompts: list[list[int]] = []

    def decode(self, features: Tensor, prompt: list[int]) -> list[Result]:
        self.batches.append(len(features))
        assert len(self.batches) < 3000, "it does not come to an end"
        self.prompts.append(prompt)
        return [self.hear(row) for row in features]

    def hear(self, row: Tensor) -> Result:
        assert row.shape == (WINDOW,)
        first, frames = int(row[0]) - 1, int(row.count_nonzero())
        assert row[:frames].equal(torch.arange(first + 1.0, first + 1 + frames)) and not row[frames:].any()
        self.windows.append((first, first + frames))
        parts: list[float | str] = []
        for begin, end, word in self.said:
            if begin >= first - OVERHEARD and end <= first + frames:
                parts += [self.stamp(begin - first), word, self.stamp(end - first + 1)]
            elif parts and begin < first + frames - OVERHEARD < end:
                parts += [self.stamp(begin - first)]
        return self.result(parts)

    def result(self, parts: list[float | str]) -> Result:
        silent = not parts
        tokens = encode(self.vocabulary, parts)
        return Result(tokens, avg_logprob=-2.0 if silent else 0.0, no_speech_prob=float(silent))

    @staticmethod
    def stamp(frame: int) -> float:
        """Seconds, as there is a timestamp for."""
        return min(max(frame, 0) // 2 * 2, WINDOW) / FRAMES_PER_SECOND


@pytest.fixture(autouse=True)
def _features_are_frame_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace log-mel by one sample of each frame, which `recording` has set to the frame's number."""

    def log_mel(sound: Tensor, window: None, filters: None) -> Tensor:
        assert sound.shape[1] == WINDOW * HOP_LENGTH
        return sound[:, ::HOP_LENGTH]

    monkeypatch.setattr(batched, "log_mel", log_mel)


def recording(frames: int) -> Tensor:
    """Samples whose value is the number of their frame, from 1; silence is 0."""
    return torch.arange(1.0, frames + 1).repeat_interleave(HOP_LENGTH)


def speech_of(said: list[Word], frames: int) -> list[Span]:
    """The speech spans that a perfect detector finds."""
    samples = frames * HOP_LENGTH
    probabilities = np.zeros(-(-samples // vad.FRAME), np.float32)
    for first, last, _ in said:
        probabilities[first * HOP_LENGTH // vad.FRAME : -(-last * HOP_LENGTH // vad.FRAME)] = 1
    return vad.spoken(probabilities, samples)


def transcribe(decoder: Perfect) -> Transcript:
    """Transcribe a recording that ends half a second after the last word."""
    frames = decoder.said[-1][1] + 50
    speech = speech_of(decoder.said, frames)
    return batched.transcribe(decoder, recording(frames), speech)


def assert_heard(transcript: Transcript, said: list[Word]) -> None:
    """Every word, once and in order, at its time."""
    assert [segment.text.strip() for segment in transcript.segments] == [word for _, _, word in said]
    for segment, (first, last, _) in zip(transcript.segments, said, strict=True):
        assert segment.start == pytest.approx(first / FRAMES_PER_SECOND, abs=0.11)
        assert segment.end == pytest.approx(last / FRAMES_PER_SECOND, abs=0.03)


def words(seed: int, frames: int, pauses: list[int]) -> list[Word]:
    """Words of random lengths, with random pauses (frames) between them."""
    choose = np.random.default_rng(seed)
    said: list[Word] = []
    at = 0
    while at < frames:
        at += int(choose.choice(pauses))
        said.append((at, at + int(choose.integers(20, 90)), str(choose.choice(["alpha", "bravo", "nine"]))))
        at = said[-1][1]
    return said


PAUSES = [3, 10, 50, 50, 400, 900, 5000]  # frames: from within a word to longer than a window
BREATHLESS = [1, 3, 5, 10]  # frames; too short for the detector to find a silence to cut at


@pytest.mark.parametrize("size", [1, 5, 16])
@pytest.mark.parametrize("seed", range(3))
def test_every_word_of_a_long_recording_comes_once(seed: int, size: int) -> None:
    """Over ten minutes, with pauses of any length."""
    said = words(seed, 60_000, PAUSES)
    decoder = Perfect(said, size)
    assert_heard(transcribe(decoder), said)
    assert max(decoder.batches) <= size
    assert sum(decoder.batches) < 60_000 / WINDOW * 4


@pytest.mark.parametrize("seed", range(5))
def test_speech_without_any_silence_is_continued_where_the_last_segment_ended(seed: int) -> None:
    """Over three minutes of speech without silence: nothing is lost or repeated at the 30 s limits."""
    alone = (60, 100, "alpha")
    dense = [(first + 200, last + 200, word) for first, last, word in words(seed, 20_000, BREATHLESS)]
    last = (dense[-1][1] + 300, dense[-1][1] + 350, "nine")
    said = [alone, *dense, last]
    speech = speech_of(said, said[-1][1] + 50)
    assert max(end - start for start, end in speech) > 6 * WINDOW * HOP_LENGTH
    decoder = Perfect(said)
    assert_heard(transcribe(decoder), said)
    ends = {end for _, end, _ in said}
    continued = 0
    for (before, _), (first, _) in pairwise(sorted(decoder.windows)[1:-1]):
        at_an_end = min(abs(first - end) for end in ends) <= 3
        assert at_an_end or first - before == WINDOW  # the 30 s before were said to their end
        continued += at_an_end and first - before < WINDOW
    assert continued >= 3


@pytest.mark.parametrize("first", range(2900, 3010, 5))
def test_a_word_across_the_end_of_30_seconds(first: int) -> None:
    """In speech without a silence: a word at every position relative to the limit of 30 s."""
    filling = [(at, at + 95, "bravo") for at in range(20, first - 95, 100)]
    gap = [(filling[-1][1] + 1, first - 2, "zulu")] if first - filling[-1][1] > 15 else []
    said = [*filling, *gap, (first, first + 80, "alpha"), (first + 90, first + 150, "nine")]
    assert_heard(transcribe(Perfect(said)), said)


class OneWord(Perfect):
    """Says one word of each window, and where the next begins."""

    def result(self, parts: list[float | str]) -> Result:
        return super().result(parts[:4] if len(parts) > 3 else parts)


def test_what_a_decode_leaves_of_a_window_is_decoded_again() -> None:
    said = words(3, 12_000, PAUSES)
    decoder = OneWord(said)
    assert_heard(transcribe(decoder), said)
    assert len(said) * 0.5 < sum(decoder.batches) <= len(said) + 5


def test_what_is_left_without_speech_in_it_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model begins another segment at the end of a window, in the silence that was left there."""

    class Dreaming(Perfect):
        def result(self, parts: list[float | str]) -> Result:
            end = float(parts[-1]) + 0.02
            return super().result([*parts[:-1], end, end + 0.1])

    monkeypatch.setattr(vad, "SPEECH_PAD", 0.2)
    said = [(50, 100, "alpha"), (150, 200, "nine")]
    decoder = Dreaming(said)
    assert_heard(transcribe(decoder), said)
    assert decoder.batches == [1]


@pytest.mark.parametrize(
    "parts",
    [
        [0.0, 0.0],
        [0.0, 0.0, "alpha"],
        [0.0, "alpha", 0.0, 0.0, "nine"],
        [0.0, "alpha", 0.02, 0.02, "nine"],
        [],
        [0.0],
        [30.0, 30.0],
        [0.0, "alpha", 30.0, 30.0, "nine"],
    ],
)
def test_the_end_is_reached_even_if_a_model_settles_nothing(parts: list[float | str]) -> None:
    class Stuck(Perfect):
        def result(self, _: list[float | str]) -> Result:
            return Result(encode(self.vocabulary, parts), avg_logprob=0.0, no_speech_prob=0.0)

    said = [(50, 100, "alpha"), (900, 1000, "nine")]
    decoder = Stuck(said)
    transcribe(decoder)
    assert sum(decoder.batches) <= 1100 / 2


def test_a_silent_window_is_left_out_whole() -> None:
    """Including hallucinated text, and even if a segment is unfinished."""

    class Doubtful(Perfect):
        def result(self, _: list[float | str]) -> Result:
            found = super().result([0.0, "alpha", 2.0, 2.0, "nine"])
            return replace(found, avg_logprob=-1.5, no_speech_prob=0.9)

    decoder = Doubtful([(50, 1000, "alpha")])
    assert transcribe(decoder).segments == []
    assert decoder.batches == [1]


def test_nothing_said() -> None:
    decoder = Perfect([(0, 50, "alpha")])
    assert batched.transcribe(decoder, recording(100), []) == Transcript("en", [])
    assert decoder.batches == []


def far_apart(count: int) -> list[Word]:
    """`count` words, each far enough from the others to be a window of its own."""
    return [(at * 1000 + 50, at * 1000 + 100, "alpha") for at in range(count)]


@pytest.mark.parametrize(
    ("windows", "size", "wanted"),
    [
        (1, 16, [1]),
        (16, 16, [16]),
        (17, 16, [9, 8]),
        (33, 16, [11, 11, 11]),
        (35, 16, [12, 12, 11]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_batches_are_even(windows: int, size: int, wanted: list[int]) -> None:
    decoder = Perfect(far_apart(windows), size)
    assert_heard(transcribe(decoder), decoder.said)
    assert decoder.batches == wanted


def test_a_prompt_goes_before_every_window() -> None:
    decoder = Perfect(far_apart(3), 2, Options(language="en", initial_prompt="nine", task="translate"))
    transcribe(decoder)
    vocabulary = decoder.vocabulary
    wanted = [vocabulary.start_of_previous, *encode(vocabulary, ["nine"])]
    wanted += [vocabulary.start, vocabulary.languages["en"], vocabulary.tasks["translate"]]
    assert decoder.prompts == [wanted, wanted]


class Small(Perfect):
    """Has memory for a number of windows."""

    room = 0

    def decode(self, features: Tensor, prompt: list[int]) -> list[Result]:
        results = super().decode(features, prompt)
        if len(features) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate too much")
        return results


class Messages:
    """A log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.parts: list[float] = []
        self.info = self.lines.append
        self.progress = self.parts.append


def test_out_of_memory_halves_the_batch() -> None:
    """Until it fits; each time is logged, no word is lost or repeated, and the size is kept."""
    decoder, log = Small(far_apart(40), 16), Messages()
    decoder.room, decoder.log = 3, log  # type: ignore[assignment]  # a stand-in
    kept: Any = object()
    decoder.kept[kept] = kept
    assert_heard(transcribe(decoder), decoder.said)
    assert decoder.batches[:3] == [14, 7, 4]
    assert (decoder.size, set(decoder.batches[3:])) == (2, {2})
    assert not decoder.kept  # what it held is given back
    assert log.lines == [f"out of memory; going on with {size} windows at a time" for size in (7, 4, 2)]
    assert log.parts == sorted(log.parts) and log.parts[-1] == 1.0


def test_out_of_memory_in_the_middle() -> None:
    """Memory may run out later, as other programs use it, too."""
    decoder = Small(words(5, 40_000, PAUSES), 4)
    decoder.room = 4
    tries: list[int] = []

    class Shrinking(Small):
        def decode(self, features: Tensor, prompt: list[int]) -> list[Result]:
            tries.append(len(features))
            self.room = 4 if len(tries) < 3 else 1
            return super().decode(features, prompt)

    decoder = Shrinking(words(5, 40_000, PAUSES), 4)
    assert_heard(transcribe(decoder), decoder.said)
    assert decoder.size == 1


@pytest.mark.parametrize("size", [1, 16])
def test_out_of_memory_for_one_window_is_an_error(size: int) -> None:
    decoder = Small(far_apart(5), size)
    with pytest.raises(torch.OutOfMemoryError):
        transcribe(decoder)
    assert decoder.batches[-1] == 1
    assert len(decoder.batches) <= 5


def affordable(monkeypatch: pytest.MonkeyPatch, free: float, device: str, dims: Dimensions = LARGE) -> int:
    """The batch size with `free` GiB of free memory, in half precision."""
    content = f"MemTotal: 99 kB\nMemFree: 5 kB\nMemAvailable:   {round(free * 2**20)} kB\nBuffers: 1 kB\n"
    monkeypatch.setattr(memory, "Path", lambda name: SimpleNamespace(read_text=lambda: content))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (round(free * 2**30), 80 * 2**30))
    network: Any = SimpleNamespace(dims=dims, dtype=torch.float16, device=torch.device(device))
    return batched.affordable(network)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_as_many_windows_as_there_is_memory_for(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [affordable(monkeypatch, free, device) for free in (0, 0.01, 1, 2, 4, 8, 16, 70, 1000)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, batched.MOST[device])
    assert sizes[2] > 1 and sizes[4] > 1.5 * sizes[3]
    smaller = replace(LARGE, decoder_layers=4)  # as turbo has
    assert affordable(monkeypatch, 1, device, smaller) > sizes[2]


def test_the_memory_of_this_machine_is_read() -> None:
    """Not only of the fake one above."""
    network: Any = SimpleNamespace(dims=LARGE, dtype=torch.float32, device=torch.device("cpu"))
    assert 1 <= batched.affordable(network) <= batched.MOST["cpu"]


class Polyglot(Perfect):
    """Has a language and a probability for each window, by its first frame."""

    def __init__(self, said: list[Word], spoken: dict[int, tuple[str, float]]) -> None:
        super().__init__(said, options=Options())
        self.spoken, self.asked, self.encoded = spoken, list[int](), list[int]()
        network: Any = self.network
        network.encode = self.encode

    def encode(self, mel: Tensor) -> Tensor:
        self.encoded += [int(row[0]) - 1 for row in mel]
        return mel

    def languages(self, features: Tensor) -> Tensor:
        (first,) = (int(row[0]) - 1 for row in features)
        self.asked.append(first)
        code, probability = self.spoken[first]
        codes = list(self.vocabulary.languages)
        row = torch.full((1, len(codes)), (1 - probability) / (len(codes) - 1))
        row[0, codes.index(code)] = probability
        return row


def detected(spoken: dict[int, tuple[str, float]], speech: list[tuple[float, float]]) -> tuple[Any, Polyglot]:
    """The transcript of a recording with speech from one second to another, and the decoder."""
    said = [(round(100 * start) + 20, round(100 * start) + 60, "alpha") for start, _ in speech]
    decoder = Polyglot(said, spoken)
    spans = [Span(round(a * SAMPLE_RATE), round(b * SAMPLE_RATE)) for a, b in speech]
    length = round(100 * speech[-1][1] + 100) if speech else 1000
    return batched.transcribe(decoder, recording(length), spans), decoder


def test_language_is_that_of_the_first_speech() -> None:
    """Not of the silence before it; without any speech, of the beginning."""
    found, decoder = detected({500: ("de", 0.9)}, [(5, 15)])
    assert (found.language, found.language_probability) == ("de", pytest.approx(0.9, abs=1e-3))
    assert decoder.asked == [500] and len(found.segments) == 1
    found, decoder = detected({0: ("de", 0.3)}, [])
    assert (found.language, decoder.asked, found.segments) == ("de", [0], [])


def test_no_window_is_encoded_twice() -> None:
    """The features for language detection are reused for the words."""
    spoken = {0: ("de", 0.4), 4000: ("de", 0.3), 8000: ("de", 0.9), 12000: ("en", 1.0)}
    found, decoder = detected(spoken, [(0, 20), (40, 60), (80, 100), (120, 140)])
    assert decoder.asked == [0, 4000, 8000]
    assert sorted(decoder.encoded) == [0, 4000, 8000, 12000]
    assert len(found.segments) == 4


def test_language_is_told_from_half_a_minute_with_its_pauses() -> None:
    """Many short words make one window, for detection and for decoding."""
    found, decoder = detected({0: ("de", 0.9)}, [(0, 1), (4, 6), (9, 11), (15, 16), (60, 61)])
    assert (found.language, decoder.asked, decoder.encoded) == ("de", [0], [0, 6000])
    assert len(found.segments) == 5


def test_a_lone_word_does_not_decide() -> None:
    """A model may be sure of a "hm", and wrong."""
    found, decoder = detected({0: ("en", 0.95), 4000: ("de", 0.9)}, [(0, 1), (40, 60)])
    assert (found.language, decoder.asked) == ("de", [0, 4000])
    assert found.language_probability == pytest.approx(20 / 21 * 0.9, abs=0.01)


def test_an_unsure_window_is_outvoted_by_speech() -> None:
    """And not all of ten windows of music are tested."""
    spoken = {6000 * i: (("ja", 0.2) if i != 2 else ("fr", 0.8)) for i in range(10)}
    found, decoder = detected(spoken, [(60 * i, 60 * i + 15) for i in range(10)])
    assert found.language == "fr" and decoder.asked == [0, 6000, 12000, 18000]


def test_an_english_model_is_not_asked() -> None:
    decoder = Polyglot([(20, 60, "alpha")], {})
    decoder.vocabulary.multilingual = False
    found = batched.transcribe(decoder, recording(1000), [Span(0, 10 * SAMPLE_RATE)])
    assert (found.language, found.language_probability, decoder.asked) == ("en", None, [])
