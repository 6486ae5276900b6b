"""decoding.py without a model: the grammar of timestamps, segments, and the way through a long recording."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoint
import decoding
import numpy as np
import pytest
import torch
from decoding import Result, Rules, Vocabulary
from torch import Tensor

WINDOW = 3000  # frames


@pytest.fixture(scope="module")
def metadata(checkpoint_folder: Path) -> dict[str, str]:
    return checkpoint.pack(checkpoint_folder, torch.float32)[1]


@pytest.fixture
def vocabulary(metadata: dict[str, str]) -> Vocabulary:
    return Vocabulary(metadata)


def tokens(vocabulary: Vocabulary, *parts: float | str) -> list[int]:
    """Seconds become timestamps, words become text."""
    found = []
    for part in parts:
        if isinstance(part, str):
            found += vocabulary.tokenizer.encode(f" {part}", add_special_tokens=False).ids
        else:
            found.append(vocabulary.first_timestamp + round(part * 50))
    return found


def cut(vocabulary: Vocabulary, *parts: float | str, length: int = WINDOW) -> tuple[list[Any], int]:
    """(start, end, words) of each segment in a window at 100 s, and what it settles."""
    result = Result(tokens(vocabulary, *parts), avg_logprob=-0.5, no_speech_prob=0.1)
    segments, settled = decoding.cut(vocabulary, result, seek=10_000, length=length)
    return [(s.start, s.end, s.text) for s in segments], settled


def test_special_tokens_come_from_the_tokenizer(vocabulary: Vocabulary) -> None:
    assert vocabulary.multilingual and vocabulary.languages["en"] == vocabulary.start + 1
    assert vocabulary.tokenizer.id_to_token(vocabulary.first_timestamp) == "<|0.00|>"
    assert vocabulary.prompt("de") == [
        vocabulary.start,
        vocabulary.languages["de"],
        vocabulary.transcribe,
    ]
    assert vocabulary.text(tokens(vocabulary, 0.0, "alpha", "nine", 1.0)) == " alpha nine"


def test_a_model_of_english_only_is_not_asked_for_a_language(metadata: dict[str, str]) -> None:
    settings = json.dumps(json.loads(metadata["generation"]) | {"is_multilingual": False})
    vocabulary = Vocabulary(metadata | {"generation": settings})
    assert vocabulary.prompt("en") == [vocabulary.start]
    assert list(vocabulary.languages) == ["en"]


def test_segments_end_where_two_timestamps_meet(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.5, "alpha", 2.0, 3.0, "bravo", 4.5, 29.0)
    assert found == [(100.5, 102.0, " alpha"), (103.0, 104.5, " bravo")]
    assert settled == 450  # what begins at 29 s is left to the next window


def test_one_timestamp_at_the_end_settles_the_window(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.5, "alpha", 2.0, 3.0, "bravo", 4.5)
    assert found == [(100.5, 102.0, " alpha"), (103.0, 104.5, " bravo")]
    assert settled == WINDOW


def test_an_unfinished_segment_is_left_to_the_next_window(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.0, "alpha", 2.0, 2.2, "bravo")
    assert found == [(100.0, 102.0, " alpha")]
    assert settled == 200


def test_a_window_of_one_segment_is_settled(vocabulary: Vocabulary) -> None:
    assert cut(vocabulary, 1.0, "alpha") == ([(101.0, 130.0, " alpha")], WINDOW)
    assert cut(vocabulary, 1.0, "alpha", 3.0) == ([(101.0, 103.0, " alpha")], WINDOW)
    assert cut(vocabulary, 1.0) == ([], WINDOW)
    assert cut(vocabulary) == ([], WINDOW)


def test_no_segment_ends_after_the_recording(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.0, "alpha", 2.0, 2.0, "bravo", 4.0, length=300)
    assert found == [(100.0, 102.0, " alpha"), (102.0, 103.0, " bravo")]
    assert settled == 300


def test_silence_takes_both_thresholds() -> None:
    speech = Result([], avg_logprob=-0.9, no_speech_prob=0.1)
    assert not speech.silent
    assert not replace(speech, avg_logprob=-1.1).silent
    assert not replace(speech, no_speech_prob=0.7).silent
    assert replace(speech, avg_logprob=-1.1, no_speech_prob=0.7).silent


def permitted(vocabulary: Vocabulary, *parts: float | str, peak: int | None = None) -> set[int]:
    """The tokens that the rules leave possible after these; all as probable as another, but for `peak`."""
    size = vocabulary.first_timestamp + 1501
    network: Any = SimpleNamespace(device="cpu", dims=SimpleNamespace(vocab_size=size))
    logits = torch.zeros(2, size)
    logits[:, vocabulary.end if peak is None else peak] = 20.0  # more than all timestamps together
    so_far = torch.tensor([tokens(vocabulary, *parts)] * 2, dtype=torch.long)
    rows = Rules(vocabulary, network)(logits, so_far)
    assert torch.equal(rows[0], rows[1])
    return set(rows[0].isfinite().nonzero().flatten().tolist())


def stamps(vocabulary: Vocabulary, first: float, last: float = 30.0) -> set[int]:
    begin, end = tokens(vocabulary, first, last)
    return set(range(begin, end + 1))


def test_the_grammar_of_timestamps(vocabulary: Vocabulary) -> None:
    text = set(range(vocabulary.first_timestamp)).difference(vocabulary.suppressed)
    special = {token for token in text if token >= vocabulary.end}
    vocabulary.max_initial_timestamp = None
    assert permitted(vocabulary) == stamps(vocabulary, 0.0)
    vocabulary.max_initial_timestamp = 50
    assert permitted(vocabulary) == stamps(vocabulary, 0.0, 1.0)
    vocabulary.begin_suppressed = tokens(vocabulary, 0.0)
    assert permitted(vocabulary) == stamps(vocabulary, 0.02, 1.0)
    # After a start: text, or the end of all.
    assert permitted(vocabulary, 0.5) == text
    # After text: more of it, or a timestamp that is later than the start.
    assert permitted(vocabulary, 0.5, "alpha") == text | stamps(vocabulary, 0.52)
    # After an end: the next start, not before it, or the end of all.
    assert permitted(vocabulary, 0.5, "alpha", 2.0) == special | stamps(vocabulary, 2.0)
    assert permitted(vocabulary, 0.5, "alpha", 2.0, 3.0) == text
    assert permitted(vocabulary, 0.5, "alpha", 2.0, 3.0, "nine") == text | stamps(vocabulary, 3.02)


def test_timestamps_win_together(vocabulary: Vocabulary) -> None:
    """None is as probable as the best word, but all of them are."""
    alpha = tokens(vocabulary, "alpha")[0]
    size = vocabulary.first_timestamp + 1501
    network: Any = SimpleNamespace(device="cpu", dims=SimpleNamespace(vocab_size=size))
    logits = torch.zeros(1, size)
    logits[0, alpha] = 3.0  # e^3 = 20 < 1450
    found = Rules(vocabulary, network)(logits, torch.tensor([tokens(vocabulary, 1.0, "nine")]))
    assert not found[0, : vocabulary.first_timestamp].isfinite().any()


Word = tuple[int, int, str]  # first and last frame, what is said


def heard_by_a_perfect_model(
    said: list[Word], vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, str]]:
    """Start and text of all segments of a recording in which these words are said, by the seek loop alone."""

    def encode(mel: Tensor) -> Tensor:
        assert mel.shape == (1, 1, WINDOW)
        return mel[:, 0, :1]

    def decode(network: Any, vocabulary: Vocabulary, features: Tensor, prompt: list[int]) -> list[Result]:
        """What Whisper is trained to say: whole words, then the start of one that the window cuts off.

        It hears a word without its first tenth of a second, and none of which there is less than that.
        """
        seek = int(features[0, 0])
        heard: list[int] = []
        for first, last, word in said:
            begin, end = max(first - seek, 0) // 2 * 2, (last - seek + 1) // 2 * 2
            if first >= seek - 10 and end <= WINDOW:
                heard += tokens(vocabulary, begin / 100, word, end / 100)
            elif heard and begin < WINDOW - 10 < end:
                heard += tokens(vocabulary, begin / 100)
        silent = not heard
        return [Result(heard, avg_logprob=-2.0 if silent else 0.0, no_speech_prob=float(silent))]

    monkeypatch.setattr(decoding, "decode", decode)
    network: Any = SimpleNamespace(encode=encode, dims=SimpleNamespace(max_source_positions=WINDOW // 2))
    frames = said[-1][1] + 5
    mel = torch.arange(frames + WINDOW).float()[None]  # each frame tells where it is
    transcript = decoding.transcribe(network, vocabulary, mel, frames, "en")
    return [(segment.start, segment.text.strip()) for segment in transcript.segments]


def test_every_word_of_a_long_recording_comes_once(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words at random times, over ten minutes, with pauses up to longer than a window."""
    choose = np.random.default_rng(0)
    said: list[Word] = []
    at = 0
    while at < 60_000:
        at += int(choose.choice([10, 50, 50, 400, 2900, 5000]))
        said.append((at, at + int(choose.integers(20, 90)), str(choose.choice(["alpha", "bravo", "nine"]))))
        at = said[-1][1]
    found = heard_by_a_perfect_model(said, vocabulary, monkeypatch)
    assert [word for _, word in found] == [word for _, _, word in said]
    assert [start for start, _ in found] == pytest.approx([first / 100 for first, _, _ in said], abs=0.1)


@pytest.mark.parametrize("first", range(2900, 3010, 5))
def test_a_word_across_the_end_of_silence(
    first: int, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window that is cut holds nothing else, so that its model says nothing."""
    said = [(first, first + 80, "alpha"), (first + 90, first + 150, "nine")]
    found = heard_by_a_perfect_model(said, vocabulary, monkeypatch)
    assert [word for _, word in found] == ["alpha", "nine"]
