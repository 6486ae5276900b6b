"""Sequential decoding is openai/whisper's: same tokens, same numbers, same times of words."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper

from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.model import alignment, sequential, warping
from preheat.model.decoding import Decoder
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.options import Options
from preheat.weights import checkpoint
from tests.runtime import reference

GREEDY = Options(language="en", temperature=(0.0,))


@pytest.fixture(scope="module")
def decoder(checkpoint_folder: Path) -> Decoder:
    """Ours, float32."""
    tensors, metadata = checkpoint.pack(checkpoint_folder, torch.float32)
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    return Decoder(network, Vocabulary(metadata), GREEDY)


@pytest.fixture(scope="module")
def theirs(checkpoint_folder: Path, decoder: Decoder) -> Any:
    """openai/whisper's model with the same weights."""
    return reference.load(checkpoint_folder, decoder.vocabulary)


@pytest.fixture(scope="module", params=["short", "long", "noise", "cut"])
def sound(request: pytest.FixtureRequest, samples: Path) -> Samples:
    """A recording; `cut` ends within a word, 19 s into its last window."""
    if request.param == "cut":
        return audiofile.decode(samples / "long.flac").samples[: 49 * SAMPLE_RATE]
    return audiofile.decode(samples / f"{request.param}.flac").samples


def both(decoder: Decoder, theirs: Any, sound: Samples, options: Options) -> tuple[list[Any], list[Any]]:
    """The segments of both; theirs without the ones that they have emptied."""
    found = theirs.transcribe(
        sound,
        language="en",
        task=options.task,
        temperature=0.0,
        initial_prompt=options.initial_prompt,
        condition_on_previous_text=options.condition_on_previous_text,
        word_timestamps=options.word_timestamps,
        no_speech_threshold=options.no_speech_threshold,
        logprob_threshold=options.logprob_threshold,
        suppress_tokens=",".join(map(str, decoder.vocabulary.suppressed)),
        fp16=False,
    )
    wanted = [segment for segment in found["segments"] if segment["text"]]
    ours = sequential.transcribe(replace(decoder, options=options), torch.from_numpy(sound), [])
    return list(ours.segments), wanted


@pytest.mark.parametrize("changes", [
    {},
    {"condition_on_previous_text": False},
    {"initial_prompt": " alpha nine "},
    {"task": "translate"},
    {"no_speech_threshold": None},
    {"no_speech_threshold": 1e-5, "logprob_threshold": -0.2},
    {"logprob_threshold": None},
], ids=str)  # fmt: skip
def test_segments_agree(changes: dict[str, Any], decoder: Decoder, theirs: Any, sound: Samples) -> None:
    ours, wanted = both(decoder, theirs, sound, replace(GREEDY, **changes))
    assert [segment.tokens for segment in ours] == [segment["tokens"] for segment in wanted]
    for found, segment in zip(ours, wanted, strict=True):
        assert (found.text, found.seek) == (segment["text"], segment["seek"])
        for name in ("avg_logprob", "compression_ratio", "no_speech_prob", "temperature"):
            assert getattr(found, name) == pytest.approx(segment[name], rel=1e-3, abs=1e-5), name
        # Theirs starts a window's only segment with the window; ours starts at the decoder's timestamp.
        times = [token for token in found.tokens if token >= decoder.vocabulary.first_timestamp]
        if len(times) > 1:
            length = len(sound) / SAMPLE_RATE
            assert found.end == pytest.approx(min(segment["end"], length), abs=0.011)
        if segment is not wanted[-1]:
            assert found.start == pytest.approx(segment["start"], abs=0.011)


@pytest.mark.parametrize("condition", [False, True], ids=["alone", "on previous text"])
def test_words_agree(condition: bool, decoder: Decoder, theirs: Any, sound: Samples) -> None:
    """The words, their times and probabilities, and the resulting times of segments and windows."""
    options = replace(GREEDY, word_timestamps=True, condition_on_previous_text=condition)
    ours, wanted = both(decoder, theirs, sound, options)
    assert [segment.tokens for segment in ours] == [segment["tokens"] for segment in wanted]
    for found, segment in zip(ours, wanted, strict=True):
        assert (found.start, found.end) == pytest.approx((segment["start"], segment["end"]), abs=0.011)
        assert found.words is not None and len(found.words) == len(segment["words"])
        for word, other in zip(found.words, segment["words"], strict=True):
            assert word.word == other["word"]
            assert (word.start, word.end) == pytest.approx((other["start"], other["end"]), abs=1e-6)
            assert word.probability == pytest.approx(other["probability"], rel=1e-3, abs=1e-5)


def test_words_of_several_windows_at_once(decoder: Decoder, samples: Path) -> None:
    """The batch gives each window what it gets alone, whatever the others' lengths."""
    from preheat.audio.vad import Span  # noqa: PLC0415  only here
    from preheat.model import batched  # noqa: PLC0415  only here

    sound = torch.from_numpy(audiofile.decode(samples / "long.flac").samples)
    worded = replace(decoder, options=replace(GREEDY, word_timestamps=True), size=3 * alignment.PARTS)
    spans = [Span(round(a * 16000), round(b * 16000)) for a, b in ((0.6, 21.6), (41.3, 44.9), (58.5, 72.9))]
    together, _ = batched.decode(worded, sound, spans, "en")
    alone = [segment for span in spans for segment in batched.decode(worded, sound, [span], "en")[0]]
    assert len(together) == len(alone) > 5
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.start, one.end) == (other.text, other.start, other.end)
        assert one.words and other.words
        assert [(w.word, w.start, w.end) for w in one.words] == [
            (w.word, w.start, w.end) for w in other.words
        ]


TEACHERS = [(7, 0), (10, 17), (12, 18), (13, 12), (16, 1)]  # heads of large-v3, which distilled ones name too


def with_heads(decoder: Decoder, heads: list[tuple[int, int]]) -> Decoder:
    """One whose checkpoint names these for alignment."""
    vocabulary = copy(decoder.vocabulary)
    vocabulary.alignment_heads = heads
    return replace(decoder, vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("named", "wanted"),
    [
        ([], [(1, 0), (1, 1), (1, 2), (1, 3)]),
        (TEACHERS, [(1, 0), (1, 1), (1, 2), (1, 3)]),
        ([*TEACHERS, (1, 2), (0, 3)], [(0, 3), (1, 2)]),
        ([(2, 0), (1, 4), (-1, 0), (1, -1), (0, 0)], [(0, 0)]),
    ],
)
def test_only_heads_that_are_there_are_watched(
    named: list[tuple[int, int]], wanted: list[tuple[int, int]], decoder: Decoder
) -> None:
    """The fixture's decoder has two layers of four, as many layers as distilled ones have."""
    distilled = with_heads(decoder, named)
    assert alignment.alignment_heads(distilled.network, distilled.vocabulary) == wanted


def test_words_agree_where_only_the_teachers_heads_are_named(
    decoder: Decoder, checkpoint_folder: Path, samples: Path
) -> None:
    """openai/whisper uses the later half of the heads if none are named."""
    later = with_heads(decoder, [(1, head) for head in range(4)])
    theirs = reference.load(checkpoint_folder, later.vocabulary)
    sound = audiofile.decode(samples / "short.flac").samples
    options = replace(GREEDY, word_timestamps=True)
    ours, wanted = both(with_heads(decoder, TEACHERS), theirs, sound, options)
    assert len(ours) == len(wanted) > 0
    for found, segment in zip(ours, wanted, strict=True):
        times = [(word.start, word.end) for word in found.words or []]
        assert times == [pytest.approx((word["start"], word["end"])) for word in segment["words"]]


@pytest.mark.parametrize("heads", [[(2, 0)], [(1, 0), (2, 0)]])
def test_a_head_that_is_not_watched_is_an_error(
    heads: list[tuple[int, int]], decoder: Decoder, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its missing scores are not used as attention."""
    monkeypatch.setattr(alignment, "alignment_heads", lambda *_: heads)
    worded = replace(decoder, options=replace(GREEDY, word_timestamps=True))
    with pytest.raises((IndexError, RuntimeError)):
        sequential.transcribe(worded, torch.from_numpy(audiofile.decode(samples / "short.flac").samples), [])


def test_time_warping_agrees(theirs: Any) -> None:
    """Where each row of the cheapest path begins, of all at once; with ties, as integers make them."""

    timing = whisper.timing
    sizes = [(1, 1), (1, 9), (5, 5), (7, 40), (40, 7), (120, 1500), (3, 1500), (120, 2)]
    random = np.random.default_rng(1)
    shape = (len(sizes), 120, 1500)
    for costs in (random.normal(size=shape), random.integers(-3, 3, shape).astype(float)):
        found = warping.token_starts(costs, sizes)
        for cost, starts, (tokens, positions) in zip(costs, found, sizes, strict=True):
            rows, columns = timing.dtw(torch.from_numpy(cost[:tokens, :positions].copy()))
            assert starts.tolist() == [int(columns[list(rows).index(row)]) for row in range(tokens)]


def test_attention_agrees(theirs: Any) -> None:
    """Normalised and smoothed, of windows of different sizes at once; also with little to smooth."""

    timing = whisper.timing
    sizes = [(12, 90), (20, 150), (7, 4), (9, 3), (8, 2), (20, 1)]
    matches = torch.randn(6, len(sizes), 20, 150)
    # Where no token attends, the deviation is 0 and the result NaN.
    matches[:, 0, :, 40] = matches[:, 1, :, 40:50] = -torch.inf
    found = warping.attention(list(matches), sizes)
    for row, (tokens, positions) in enumerate(sizes):
        weights = matches[:, row, :tokens, :positions].softmax(dim=-1)
        deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
        wanted = timing.median_filter((weights - mean) / deviation, 7).mean(dim=0)
        torch.testing.assert_close(found[row, :tokens, :positions], wanted, equal_nan=True)


def test_the_best_of_several_samples(decoder: Decoder, samples: Path) -> None:
    """At a temperature above 0 samples differ, the most probable is chosen, and a seed reproduces it."""
    from preheat.audio.vad import Span  # noqa: PLC0415  only here
    from preheat.model import batched  # noqa: PLC0415  only here

    sound = torch.from_numpy(audiofile.decode(samples / "long.flac").samples)
    features = batched.encode(decoder.network, sound, [Span(0, 480_000), Span(480_000, 960_000)])
    prompt = decoder.prompt("en", [])
    hot = replace(decoder, options=Options(best_of=1))
    many = replace(decoder, options=Options(best_of=8))
    torch.manual_seed(1)
    singles = [hot.decode_once(features, prompt, 1.0) for _ in range(8)]
    assert len({tuple(single[0].tokens) for single in singles}) > 1
    torch.manual_seed(1)
    first = many.decode_once(features, prompt, 1.0)
    torch.manual_seed(1)
    assert many.decode_once(features, prompt, 1.0) == first
    for window in range(2):
        mean = sum(single[window].avg_logprob for single in singles) / len(singles)
        assert first[window].avg_logprob > mean
    # A temperature near 0 gives the same as 0.
    (cold, _), (greedy, _) = many.decode_once(features, prompt, 1e-4), many.decode_once(features, prompt)
    assert cold.tokens == greedy.tokens
