"""decoding.py without a network: which results are silence, which are tried again, how long they may be."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from preheat.model import decoding
from preheat.model.decoding import Decoder, Result
from preheat.options import Options

SPEECH = Result([], avg_logprob=-0.9, no_speech_prob=0.1)
EMPTY = replace(SPEECH, avg_logprob=-1.1, no_speech_prob=0.7)


def test_silence_takes_both_thresholds() -> None:
    options = Options()
    assert not SPEECH.silent(options)
    assert not replace(SPEECH, avg_logprob=-1.1).silent(options)
    assert not replace(SPEECH, no_speech_prob=0.7).silent(options)
    assert EMPTY.silent(options)
    assert not EMPTY.silent(Options(no_speech_threshold=None))
    assert not EMPTY.silent(Options(no_speech_threshold=0.8))
    assert not EMPTY.silent(Options(logprob_threshold=-2.0))
    assert replace(SPEECH, no_speech_prob=0.7).silent(Options(logprob_threshold=None))


def test_a_result_fails_by_either_threshold() -> None:
    """Like `needs_fallback` in openai/whisper."""
    options = Options()
    improbable, repetitive = replace(SPEECH, avg_logprob=-1.1), replace(SPEECH, compression_ratio=2.5)
    assert not SPEECH.fails(options)
    assert improbable.fails(options)
    assert not improbable.fails(Options(logprob_threshold=None))
    assert repetitive.fails(options)
    assert not repetitive.fails(Options(compression_ratio_threshold=None))
    # Improbable text without speech does not fail, repetitive or not.
    assert not EMPTY.fails(options)
    assert not replace(EMPTY, compression_ratio=2.5).fails(options)
    assert EMPTY.fails(Options(no_speech_threshold=None))
    assert replace(repetitive, no_speech_prob=0.7).fails(options)


def tried(
    outcomes: dict[tuple[int, float], Result], options: Options, size: int = 16
) -> tuple[list[Result], list[Any]]:
    """What `decode` returns for three windows, and which of them it tried at which temperature."""
    calls = []

    class Stub(Decoder):
        def decode_once(self, features: Tensor, prompt: list[int], temperature: float = 0.0) -> list[Result]:
            assert prompt == [7]
            rows = [int(row) for row in features[:, 0, 0]]
            calls.append((temperature, rows))
            return [replace(outcomes.get((i, temperature), SPEECH), temperature=temperature) for i in rows]

    nothing: Any = None
    features = torch.arange(3.0)[:, None, None].expand(3, 2, 2)
    return Stub(nothing, nothing, options, size).decode(features, [7]), calls


def test_only_what_fails_is_tried_again() -> None:
    bad = replace(SPEECH, compression_ratio=9.0)
    outcomes = {(0, 0.0): bad, (2, 0.0): bad, (2, 0.2): bad}
    results, calls = tried(outcomes, Options())
    assert calls == [(0.0, [0, 1, 2]), (0.2, [0, 2]), (0.4, [2])]
    assert [result.temperature for result in results] == [0.2, 0.0, 0.4]


BABBLE = replace(SPEECH, tokens=[1] * 220, avg_logprob=-3.0)


def test_a_window_of_nonsense_costs_two_tries_of_full_length() -> None:
    """openai/whisper would make five, of five samples each."""
    loud = {(1, t): replace(BABBLE, compression_ratio=9.0, avg_logprob=-3 + t) for t in Options().temperature}
    _, calls = tried(loud, Options())
    assert [temperature for temperature, rows in calls if 1 in rows] == [0.0, 0.2, 0.4, 0.6]
    short = {where: replace(result, tokens=[1] * 20) for where, result in loud.items()}
    _, calls = tried(short, Options())
    assert [temperature for temperature, rows in calls if 1 in rows] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_improbable_text_that_becomes_more_so_is_given_up() -> None:
    falling = {(1, t): replace(SPEECH, avg_logprob=-1.5 - t) for t in Options().temperature}
    results, calls = tried(falling, Options())
    assert [temperature for temperature, rows in calls if 1 in rows] == [0.0, 0.2]
    assert (results[1].temperature, results[1].avg_logprob) == (0.0, -1.5)
    rising = {(1, t): replace(SPEECH, avg_logprob=-1.9 + t) for t in Options().temperature}
    results, calls = tried(rising, Options())
    assert results[1].temperature == 1.0 and [t for t, rows in calls if 1 in rows][-1] == 1.0


def test_the_best_try_stays() -> None:
    """The most probable; of what repeats itself only if all do."""
    repetitive = replace(SPEECH, compression_ratio=9.0, avg_logprob=-0.1)
    outcomes = {
        (1, 0.0): repetitive,
        (1, 0.2): replace(SPEECH, avg_logprob=-1.2),
        (1, 0.4): replace(SPEECH, avg_logprob=-1.3),
    }
    results, _ = tried(outcomes, Options(temperature=(0.0, 0.2, 0.4)))
    assert [result.temperature for result in results] == [0.0, 0.2, 0.0]
    outcomes |= {(1, t): replace(repetitive, avg_logprob=-0.1 - t) for t in (0.2, 0.4)}
    results, _ = tried(outcomes, Options(temperature=(0.0, 0.2, 0.4)))
    assert results[1].temperature == 0.0


@pytest.mark.parametrize(
    ("size", "best_of", "wanted"),
    [(16, 5, [[0, 1, 2]]), (12, 5, [[0, 1], [2]]), (3, 1, [[0, 1, 2]]), (3, 5, [[0], [1], [2]])],
)
def test_samples_take_the_place_of_windows(size: int, best_of: int, wanted: list[list[int]]) -> None:
    """There are never more rows than `size`, unless a single window needs them."""
    bad = replace(SPEECH, compression_ratio=9.0)
    _, calls = tried({(i, 0.0): bad for i in range(3)}, Options(best_of=best_of), size)
    assert calls == [(0.0, [0, 1, 2]), *((0.2, part) for part in wanted)]


@pytest.mark.parametrize(("positions", "prompt"), [(448, 3), (448, 227), (96, 4), (64, 40)])
def test_there_is_room_for_what_may_be_decoded(positions: int, prompt: int) -> None:
    """Half of the positions as openai/whisper has it, and never one that the network does not have."""
    network: Any = SimpleNamespace(dims=SimpleNamespace(max_target_positions=positions))
    tokens = decoding.limit(network, prompt)
    assert 1 <= tokens <= positions // 2
    last = prompt + tokens - 1  # tokens that are fed to the decoder; the last one never is
    assert last <= decoding.capacity(network, prompt) <= positions
    assert tokens == positions // 2 or last == positions
