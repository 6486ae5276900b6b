"""loudness.py: speech is found however quiet it is, and however loud the sound around it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from preheat.audio import audiofile, vad
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.loudness import AROUND, LEAST_LEVEL, audible, gains
from preheat.audio.mixing import Samples
from tests.runtime.soundfiles import RECORDINGS


@pytest.fixture(scope="module")
def detector() -> vad.Detector:
    return vad.Detector.load()


@pytest.fixture(scope="module")
def sentence() -> Samples:
    """6.5 s of speech nearly without a pause, its peak at 1."""
    sound = audiofile.decode(RECORDINGS / "clean.flac").samples
    loudest: Samples = sound / np.abs(sound).max()
    return loudest


def found(detector: vad.Detector, sound: NDArray[Any], first: float = 0, last: float = np.inf) -> float:
    """Seconds of speech between two times of a recording."""
    rate = SAMPLE_RATE
    speech = vad.spoken(detector.probabilities(audible(sound.astype(np.float32))), len(sound))
    return sum(max(0, min(end / rate, last) - max(start / rate, first)) for start, end in speech)


@pytest.mark.parametrize("peak", [0, -20, -40, -50, -60, -70, -80])  # dBFS
def test_speech_is_found_at_any_level(peak: float, detector: vad.Detector, sentence: Samples) -> None:
    assert found(detector, sentence * 10 ** (peak / 20)) == pytest.approx(6.5, abs=0.2)


def test_a_knock_leaves_nobody_unheard(detector: vad.Detector, sentence: Samples) -> None:
    quiet = sentence * 0.001
    quiet[1000:1100] = 0.9
    quiet[50_000:50_400] = -0.9
    assert found(detector, quiet) > 5.5


def test_a_loud_stretch_leaves_nobody_unheard(detector: vad.Detector, sentence: Samples) -> None:
    pause = np.zeros(20 * SAMPLE_RATE, np.float32)
    both = np.concatenate([sentence, pause, sentence * 0.001, pause, sentence])
    assert found(detector, both, 26, 34) > 5.5
    noise = np.random.default_rng(0).normal(0, 1e-4, 130 * SAMPLE_RATE).astype(np.float32)
    noise[120 * SAMPLE_RATE :][: len(sentence)] = sentence
    assert found(detector, noise) == pytest.approx(6.8, abs=0.4)


@pytest.mark.parametrize("level", [1e-5, 1e-4, 1e-3, 0.1])
def test_noise_is_no_speech_at_any_level(level: float, detector: vad.Detector, samples: Path) -> None:
    random = np.random.default_rng(0)
    assert found(detector, random.normal(0, level, 40 * SAMPLE_RATE)) == 0
    noise = audiofile.decode(samples / "noise.flac").samples
    assert found(detector, noise / noise.std() * level) == 0
    assert found(detector, np.zeros(SAMPLE_RATE)) == 0


def test_what_is_loud_enough_is_heard_as_it_is(samples: Path) -> None:
    for name in ("short.flac", "long.flac"):
        sound = audiofile.decode(samples / name).samples
        assert audible(sound) is sound


def test_gains_of_any_length() -> None:
    assert gains(np.array([0.1])).tolist() == [1]
    assert gains(np.array([0.001])).tolist() == [pytest.approx(LEAST_LEVEL / 0.001)]
    assert gains(np.array([0.001, 0.5])).tolist() == [1, 1]  # with two seconds, a knock cannot be recognised
    assert gains(np.array([0.001, 0.5, 0.001])).tolist() == [pytest.approx(10)] * 3
    long = np.full(100, 0.001)
    long[50:53] = 0.5  # three loud seconds are speech, and lower the gain around them only
    assert (gains(long) == 1).sum() == 2 * AROUND - 1  # seconds with all three in their neighbourhood
    for length in (1, 159, 16_000, 16_001, 47_999):
        louder = audible(np.full(length, 1e-4, np.float32))
        assert len(louder) == len(louder[0 : length + 1]) == length
        assert np.allclose(louder[0:length], LEAST_LEVEL)
