"""The right words: for every sample, with every strategy, wherever windows are cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import torch

from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.audio.vad import Detector, spoken
from preheat.model import batched
from preheat.model.decoding import Decoder
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.weights import checkpoint, state
from preheat.weights.readahead import ReadAhead

MOST_ERRORS = 0.05  # of the words: the fixture model's own limit
Hear = Callable[[Samples], str]


def listener(packed: checkpoint.Packed) -> Hear:
    """A function from samples at 16 kHz to words, with a packed model."""
    tensors, metadata = packed
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    decoder, detector = Decoder(network, Vocabulary(metadata)), Detector.load()

    def hear(samples: Samples) -> str:
        speech = spoken(detector.probabilities(samples), len(samples))
        transcript = batched.transcribe(decoder, torch.from_numpy(samples), speech)
        return " ".join(segment.text.strip() for segment in transcript.segments)

    return hear


@pytest.fixture(scope="module")
def hear(baked: Path) -> Hear:
    """The fixture model, from its state file."""
    return listener(state.load(ReadAhead(baked / "state/whisper-nato.safetensors")))


@pytest.fixture(scope="module")
def short(samples: Path) -> tuple[Samples, str]:
    """The short sample and what is said in it."""
    return audiofile.decode(samples / "short.flac").samples, (samples / "short.txt").read_text()


def word_error_rate(wanted: str, found: str) -> float:
    return float(jiwer.wer(" ".join(wanted.split()), " ".join(found.split())))


@pytest.mark.parametrize("name", ["short", "long", "noise"])
def test_samples_by_both_strategies(name: str, main: Callable[..., Any], samples: Path) -> None:
    found = [main("--load", way, samples / f"{name}.flac").stdout for way in ("state", "standard")]
    assert found[0] == found[1]
    wanted = (samples / f"{name}.txt").read_text()
    if wanted:
        assert word_error_rate(wanted, found[0]) <= MOST_ERRORS
    else:
        assert found[0] == ""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str, short: tuple[Samples, str], checkpoint_folder: Path) -> None:
    hear = listener(checkpoint.pack(checkpoint_folder, getattr(torch, dtype)))
    assert word_error_rate(short[1], hear(short[0])) <= MOST_ERRORS


@pytest.mark.parametrize(("suffix", "rate"), [("mp3", 44100), ("ogg", 48000), ("wav", 22050)])
def test_formats(
    suffix: str, rate: int, short: tuple[Samples, str], main: Callable[..., Any], tmp_path: Path
) -> None:
    """In stereo, with speech only on the left."""
    step = SAMPLE_RATE / rate
    left = np.interp(np.arange(0, len(short[0]) - 1, step), np.arange(len(short[0])), short[0])
    soundfile.write(tmp_path / f"a.{suffix}", np.stack([left, left * 0.2], axis=1), rate)
    done = main("--quiet", tmp_path / f"a.{suffix}")
    assert word_error_rate(short[1], done.stdout) <= MOST_ERRORS


@pytest.mark.parametrize("delay", [0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
def test_no_word_is_lost_where_a_window_ends(delay: float, samples: Path, hear: Hear) -> None:
    """The long sample after some silence, so that its windows end in other words."""
    long = audiofile.decode(samples / "long.flac").samples
    silence = np.zeros(round(delay * SAMPLE_RATE), np.float32)
    found = hear(np.concatenate([silence, long]))
    assert word_error_rate((samples / "long.txt").read_text(), found) <= MOST_ERRORS


@pytest.mark.parametrize("seconds", [0.005, 0.5, 70])
def test_nothing_is_heard_in_silence(seconds: float, hear: Hear) -> None:
    assert hear(np.zeros(round(seconds * SAMPLE_RATE), np.float32)) == ""
