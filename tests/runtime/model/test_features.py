"""features.py: log-mel is that of openai/whisper and of transformers, to the last frame."""

from typing import Any

import numpy as np
import pytest
import torch
import whisper
from torch import Tensor
from transformers import WhisperFeatureExtractor

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.model import features

WINDOW = 30 * SAMPLE_RATE  # samples
CLOSE = 1e-5


def noise(seconds: float, loudness: float = 0.1, seed: int = 0) -> Samples:
    """Noise in every band, without a fade-out: the last frames are as loud as all others."""
    samples = np.random.default_rng(seed).normal(0, loudness, round(seconds * SAMPLE_RATE))
    return samples.astype(np.float32)


def in_window(samples: Samples) -> Tensor:
    """Filled up with zeros to 30 s, or cut."""
    filled = torch.zeros(WINDOW)
    filled[: len(samples)] = torch.from_numpy(samples[:WINDOW])
    return filled


def extractor(mel_bins: int) -> Any:
    """transformers' log-mel; Any, for it has no types."""
    untyped: Any = WhisperFeatureExtractor
    return untyped(feature_size=mel_bins)


def log_mel(samples: Tensor, mel_bins: int) -> Tensor:
    """Ours, with the window and the filters as they are packed."""
    filters = torch.from_numpy(extractor(mel_bins).mel_filters.T).float().contiguous()
    return features.log_mel(samples, torch.hann_window(400), filters)


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("seconds", [0.01, 3, 29.9, 30, 31])
def test_one_window_is_that_of_transformers(mel_bins: int, seconds: float) -> None:
    sound = noise(seconds)
    wanted = extractor(mel_bins)(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features[0]
    found = log_mel(in_window(sound), mel_bins)
    assert found.shape == wanted.shape == (mel_bins, 3000)
    assert (found - wanted).abs().max() < CLOSE


def test_each_window_of_a_batch_is_normalised_by_itself() -> None:
    """A loud one among quiet ones, and silence: alone or together, and as transformers does a batch."""
    sounds = [noise(30, loudness, seed) for seed, loudness in enumerate([1e-4, 0.5, 1e-2])]
    sounds.append(np.zeros(WINDOW, np.float32))
    batch = torch.stack([in_window(sound) for sound in sounds])
    found = log_mel(batch, 80)
    wanted = extractor(80)(sounds, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    assert found.shape == wanted.shape == (4, 80, 3000)
    assert (found - wanted).abs().max() < CLOSE
    for row, alone in zip(found, batch, strict=True):
        assert (row - log_mel(alone, 80)).abs().max() < CLOSE


def test_shape_in_shape_out() -> None:
    """Any dimensions in front, also none; less than a frame at the end is left out."""
    sound = torch.from_numpy(noise(0.5))
    alone = log_mel(sound, 80)
    assert alone.shape == (80, 50)
    found = log_mel(sound.expand(2, 3, -1), 80)
    assert found.shape == (2, 3, 80, 50)
    assert (found - alone).abs().max() < CLOSE
    assert log_mel(sound[: 160 * 49 + 159], 80).shape == (80, 49)


def long_recording() -> Samples:
    """More than two blocks of the transform, with a quiet half: the maximum is global. Not whole frames."""
    quiet, loud = noise(70, 1e-4), noise(70.0042, 0.1, seed=1)
    return np.concatenate([quiet, loud])


def test_a_long_recording_is_that_of_transformers() -> None:
    padded = np.concatenate([long_recording(), np.zeros(WINDOW, np.float32)])
    options = {"sampling_rate": SAMPLE_RATE, "truncation": False, "padding": "longest"}
    wanted = extractor(80)(padded, **options, return_tensors="pt").input_features[0]
    found = log_mel(torch.from_numpy(padded), 80)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < CLOSE


@pytest.mark.parametrize("mel_bins", [80, 128])
def test_a_long_recording_is_that_of_openai_whisper(mel_bins: int) -> None:
    sound = long_recording()
    wanted = whisper.audio.log_mel_spectrogram(sound, mel_bins, padding=WINDOW)
    filters = whisper.audio.mel_filters("cpu", mel_bins)
    padded = torch.nn.functional.pad(torch.from_numpy(sound), (0, WINDOW))
    found = features.log_mel(padded, torch.hann_window(400), filters)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < CLOSE
    assert (log_mel(padded, mel_bins) - wanted).abs().max() < CLOSE  # by the filters that are packed


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = torch.from_numpy(noise(3))
    whole = log_mel(sound, 80)
    for block in (299, 300, 7):
        monkeypatch.setattr(features, "BLOCK", block)
        assert (log_mel(sound, 80) - whole).abs().max() < CLOSE
