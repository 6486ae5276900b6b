"""audio.py: every format, rate and channel count gives the same sound; log-mel is transformers'."""

import os
from pathlib import Path
from typing import Any

import audio
import numpy as np
import pytest
import soundfile
import torch
from audio import Samples
from storage import InputError, check
from transformers import WhisperFeatureExtractor

RATE = 16000


def chirp(seconds: float, rate: int) -> Samples:
    """A tone from 200 to 3000 Hz, which every codec keeps."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 1400 * time / seconds) * time)).astype(np.float32)


def extractor(mel_bins: int) -> Any:
    """transformers' log-mel; Any, for it has no types."""
    untyped: Any = WhisperFeatureExtractor
    return untyped(feature_size=mel_bins)


def log_mel(samples: Samples, mel_bins: int) -> torch.Tensor:
    """Ours, with the window and the filters as they are packed."""
    filters = torch.from_numpy(extractor(mel_bins).mel_filters.T).float().contiguous()
    return audio.log_mel(torch.from_numpy(samples), torch.hann_window(400), filters)


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("seconds", [0.01, 3, 29.9])
def test_log_mel_of_one_window_is_that_of_transformers(mel_bins: int, seconds: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    wanted = extractor(mel_bins)(noise, sampling_rate=RATE, return_tensors="pt").input_features[0]
    # The last frames of ours see the silence beyond the window, theirs a mirror image of its end.
    found = log_mel(noise, mel_bins)[:, :3000]
    assert (found - wanted)[:, :-2].abs().max() < 1e-5


def test_log_mel_of_a_long_recording_is_that_of_transformers() -> None:
    """More than one block of the transform, a quiet half: one maximum for the whole recording."""
    loud, quiet = chirp(70, RATE), chirp(70, RATE) * 1e-3
    sound = np.concatenate([quiet, loud])
    padded = np.concatenate([sound, np.zeros(30 * RATE, np.float32)])
    options = {"sampling_rate": RATE, "truncation": False, "padding": "longest", "return_tensors": "pt"}
    wanted = extractor(80)(padded, **options).input_features[0]
    found = log_mel(sound, 80)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_decode_gives_the_sound_at_16_khz(suffix: str, rate: int, channels: int, tmp_path: Path) -> None:
    """As if made at 16 kHz; the second channel is silent, so that stereo halves the loudness."""
    sound = chirp(3, rate)
    columns = [sound, np.zeros_like(sound)][:channels]
    path = tmp_path / f"chirp.{suffix}"
    soundfile.write(path, np.stack(columns, axis=1), rate)
    found = audio.decode(path).numpy()
    wanted = chirp(3, RATE) / channels
    assert len(found) == pytest.approx(len(wanted), abs=0.05 * RATE)
    middle = slice(RATE // 4, 2 * RATE)
    error = np.sqrt(np.mean((found[middle] - wanted[middle]) ** 2) / np.mean(wanted[middle] ** 2))
    assert error < 0.1


def test_decode_spans_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(2, 44100), 44100)
    whole = audio.decode(tmp_path / "a.wav")
    monkeypatch.setattr(audio, "BLOCK", 1000)
    assert torch.allclose(audio.decode(tmp_path / "a.wav"), whole, atol=1e-6)


def cut_file(path: Path, bytes_kept: int) -> None:
    path.write_bytes(path.read_bytes()[:bytes_kept])


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_recording_cut_short_is_refused(suffix: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 5 * RATE), RATE)
    cut_file(path, int(path.stat().st_size * part))
    with pytest.raises(InputError, match="cut short"):
        audio.decode(path)


def test_a_wav_written_to_a_pipe_is_whole(tmp_path: Path) -> None:
    """Its writer could not know the length, and left the greatest there is."""
    path = tmp_path / "a.wav"
    soundfile.write(path, chirp(1, RATE), RATE)
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[4:8] = content[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(audio.decode(path)) == RATE


@pytest.mark.parametrize(
    "content", [b"not audio at all " * 100, b"RIFF", np.random.default_rng(0).bytes(70000), b"\0"]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.txt"])
def test_what_is_not_audio_is_refused(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"not a recording.*; give a wav"):
        audio.decode(tmp_path / name)


def test_no_samples_and_no_numbers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    with pytest.raises(InputError, match="0 samples"):
        audio.decode(tmp_path / "none.wav")
    sound = chirp(1, RATE)
    sound[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="not numbers"):
        audio.decode(tmp_path / "nan.wav")


M4A = b"\0\0\0\x1cftypM4A \0\0\0\0"


def test_m4a_without_ffmpeg_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(M4A)
    with pytest.raises(InputError, match="apt-get install ffmpeg"):
        audio.decode(tmp_path / "a.m4a")


def test_m4a_goes_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for ffmpeg that checks what it is asked for: this machine may have none."""
    sound = chirp(1, RATE)
    (tmp_path / "raw").write_bytes(sound.tobytes())
    (tmp_path / "a.m4a").write_bytes(M4A)
    (tmp_path / "ffmpeg").write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"-i file:{tmp_path}/a.m4a"*"-f f32le -ac 1 -ar 16000 -")\n'
        f"  exec /bin/cat {tmp_path}/raw ;; esac\n"
        "echo 'moov atom not found' >&2; exit 1\n"
    )
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert np.array_equal(audio.decode(tmp_path / "a.m4a").numpy(), sound)
    (tmp_path / "b.m4a").write_bytes(M4A)
    with pytest.raises(InputError, match="moov atom not found"):
        audio.decode(tmp_path / "b.m4a")


def test_check_finds_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, cause in {
        "": "is a folder",
        "none.wav": "no such file",
        "empty.wav": "is empty",
        "pipe": "not a regular file",
        "n" * 300: "cannot be read",
    }.items():
        with pytest.raises(InputError, match=cause):
            check(tmp_path / name)
