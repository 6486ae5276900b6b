"""audio.py: every format, rate and channel count gives the same sound."""

import os
from pathlib import Path

import audio
import numpy as np
import pytest
import soundfile
from audio import Samples
from storage import InputError, check

RATE = 16000


def chirp(seconds: float, rate: int) -> Samples:
    """A tone from 200 to 3000 Hz, which every codec keeps."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 1400 * time / seconds) * time)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_decode_gives_the_sound_at_16_khz(suffix: str, rate: int, channels: int, tmp_path: Path) -> None:
    """As if made at 16 kHz; the second channel is silent, so that stereo halves the loudness."""
    sound = chirp(3, rate)
    columns = [sound, np.zeros_like(sound)][:channels]
    path = tmp_path / f"chirp.{suffix}"
    soundfile.write(path, np.stack(columns, axis=1), rate)
    found = audio.decode(path)
    assert found.dtype == np.float32 and found.ndim == 1
    wanted = chirp(3, RATE) / channels
    assert len(found) == pytest.approx(len(wanted), abs=0.05 * RATE)
    middle = slice(RATE // 4, 2 * RATE)
    error = np.sqrt(np.mean((found[middle] - wanted[middle]) ** 2) / np.mean(wanted[middle] ** 2))
    assert error < 0.1


def test_decode_spans_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(2, 44100), 44100)
    whole = audio.decode(tmp_path / "a.wav")
    monkeypatch.setattr(audio, "BLOCK", 1000)
    assert np.allclose(audio.decode(tmp_path / "a.wav"), whole, atol=1e-6)


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
    assert np.array_equal(audio.decode(tmp_path / "a.m4a"), sound)
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
