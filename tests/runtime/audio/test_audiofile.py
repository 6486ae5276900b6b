"""audiofile.py: every format, rate and channel count gives the same sound; other files are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preheat.audio import audiofile, isolation
from preheat.audio.constants import SAMPLE_RATE
from preheat.storage import InputError, check
from tests.runtime.soundfiles import RECORDINGS, WRITERS, chirp, patched


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_decode_gives_the_sound_at_16_khz(suffix: str, rate: int, channels: int, tmp_path: Path) -> None:
    """The same as generated at 16 kHz; in stereo at half the level, as the second channel is silent."""
    sound = chirp(3, rate)
    columns = [sound, np.zeros_like(sound)][:channels]
    path = tmp_path / f"chirp.{suffix}"
    soundfile.write(path, np.stack(columns, axis=1), rate)
    found = audiofile.decode(path).samples
    assert found.dtype == np.float32 and found.ndim == 1
    wanted = chirp(3, SAMPLE_RATE) / channels
    assert len(found) == pytest.approx(len(wanted), abs=0.05 * SAMPLE_RATE)
    middle = slice(SAMPLE_RATE // 4, 2 * SAMPLE_RATE)
    error = np.sqrt(np.mean((found[middle] - wanted[middle]) ** 2) / np.mean(wanted[middle] ** 2))
    assert error < 0.1


def test_decode_spans_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(2, 44100), 44100)
    whole = audiofile.decode(tmp_path / "a.wav").samples
    monkeypatch.setattr(audiofile, "BLOCK", 1000)
    assert np.allclose(audiofile.decode(tmp_path / "a.wav").samples, whole, atol=1e-6)


@pytest.mark.parametrize("name", ["short.flac", "long.wav"])
def test_plain_files_are_read_in_this_process(
    name: str, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So start-up does not pay for the helper process."""
    monkeypatch.setattr(isolation, "HELPER", None)
    path = samples / name
    if not path.exists():
        path = tmp_path / name
        soundfile.write(path, audiofile.decode(samples / "long.flac").samples, SAMPLE_RATE)
    assert len(audiofile.decode(path).samples) > 7 * SAMPLE_RATE


def test_both_readers_hear_the_same(samples: Path, tmp_path: Path) -> None:
    wanted = audiofile.decode(samples / "long.flac").samples
    content = (samples / "long.flac").read_bytes()
    (tmp_path / "a").write_bytes(content + b"TAG" + bytes(125))  # libsndfile ignores it, too
    found, incomplete, _ = isolation.decode((tmp_path / "a").open("rb"))
    assert incomplete is None
    assert np.abs(found - wanted).max() < 1e-6


@pytest.mark.parametrize(
    "content", [b"not audio at all " * 100, b"RIFF", np.random.default_rng(0).bytes(70000), b"\0"]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.txt"])
def test_what_is_not_audio_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"not a recording.*; give a wav"):
        audiofile.decode(tmp_path / name)


def test_no_samples_and_no_numbers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), SAMPLE_RATE)
    with pytest.raises(InputError, match="0 samples"):
        audiofile.decode(tmp_path / "none.wav")
    sound = chirp(1, SAMPLE_RATE)
    sound[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="NaN or infinite"):
        audiofile.decode(tmp_path / "nan.wav")


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{sound}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {sound}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD><Period><AdaptationSet mimeType="audio/mp4"><BaseURL>{sound}</BaseURL>'
        '<Representation id="1"/></AdaptationSet></Period></MPD>',
    ],
    ids=["playlist", "concat", "session", "manifest"],
)
def test_a_file_that_names_others_opens_none(content: str, samples: Path, tmp_path: Path) -> None:
    """Recordings may come from strangers, who must not get at other files or addresses."""
    path = tmp_path / "a.m3u8"
    path.write_text(content.format(sound=samples / "short.flac"))
    with pytest.raises(InputError, match="not a recording"):
        audiofile.decode(path)


@pytest.mark.parametrize("rate", [1, 2, 7, 1999, 768_001, 0xFFFFFFFF])
@pytest.mark.parametrize("behind", [b"", b"x" * 2000], ids=["plain", "other"])
def test_a_rate_that_no_speech_has_is_named(rate: int, behind: bytes, tmp_path: Path) -> None:
    """Otherwise either reader would turn a few bytes into gigabytes."""
    content = patched(WRITERS["wav"](chirp(1)), b"fmt ", 8, rate.to_bytes(4, "little")) + behind
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=rf"\({rate} Hz\)|not a recording"):  # FFmpeg refuses some itself
        audiofile.decode(tmp_path / "a")


def test_forged_rates_of_other_formats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(1 Hz\)"):
        audiofile.decode(RECORDINGS / "rate-1-hz.flac")
    for name, mark, skip in (("ogg", b"\x01vorbis", 5), ("au", b".snd", 12)):
        rate = (2).to_bytes(4, "little" if name == "ogg" else "big")
        (tmp_path / name).write_bytes(patched(WRITERS[name](chirp(1)), mark, skip, rate))
        with pytest.raises(InputError, match=r"\(2 Hz\)|not a recording"):
            audiofile.decode(tmp_path / name)


def test_a_length_of_days_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audiofile, "LONGEST", 2)
    soundfile.write(tmp_path / "a.wav", chirp(3), SAMPLE_RATE)
    with pytest.raises(InputError, match=r"hours long or longer, the limit is 24 hours; split it"):
        audiofile.decode(tmp_path / "a.wav")


@pytest.mark.parametrize("scale", [3.0, 100.0, 32768.0, 2.0**31])
def test_floats_of_another_range_are_made_to_fit(scale: float, samples: Path, tmp_path: Path) -> None:
    """Some programs write integer values as floats; a click does not change the scale."""
    sound = audiofile.decode(samples / "short.flac").samples
    soundfile.write(tmp_path / "a.wav", sound / np.abs(sound).max() * scale, SAMPLE_RATE, subtype="FLOAT")
    found = audiofile.decode(tmp_path / "a.wav").samples
    assert 0.2 < np.abs(found).max() <= audiofile.LOUD
    assert np.corrcoef(found, sound)[0, 1] > 0.99
    clicking = sound.copy()
    clicking[4000:4003] = scale
    soundfile.write(tmp_path / "b.wav", clicking, SAMPLE_RATE, subtype="FLOAT")
    found = audiofile.decode(tmp_path / "b.wav").samples
    assert np.allclose(found[5000:], sound[5000:])


def test_samples_a_little_beyond_are_left_alone(tmp_path: Path) -> None:
    """Lossy codecs overshoot."""
    sound = 3 * chirp(1)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    assert np.array_equal(audiofile.decode(tmp_path / "a.wav").samples, sound)


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
