"""Recordings with several audio tracks, as videos have them: each can be chosen, none is mixed up."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from preheat.audio import audiofile, isolation
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.storage import InputError
from tests.runtime.console import Run, errors


def video(*tracks: Samples, form: str = "matroska", codec: str = "libmp3lame") -> bytes:
    """A video file with these audio tracks and no pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        streams = [container.add_stream(codec, rate=SAMPLE_RATE) for _ in tracks]
        for stream in streams:
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono"
        for stream, sound in zip(streams, tracks, strict=True):
            assert isinstance(stream, av.AudioStream)
            frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            resampler = av.AudioResampler(stream.format, "mono", SAMPLE_RATE)
            for each in [*resampler.resample(frame), *resampler.resample(None), None]:
                container.mux(stream.encode(each))
    return file.getvalue()


def tone(hertz: int) -> Samples:
    """Two seconds."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def loudest(samples: Samples) -> int:
    """The frequency that is heard most, in Hz."""
    return 100 * round(int(np.abs(np.fft.rfft(samples)).argmax()) * SAMPLE_RATE / len(samples) / 100)


def test_each_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "film.mkv").write_bytes(video(tone(400), tone(800), tone(1600)))
    for track, hertz in ((1, 400), (2, 800), (3, 1600)):
        with (tmp_path / "film.mkv").open("rb", buffering=0) as file:
            found = audiofile.decode_file(file, track)
        assert loudest(found.samples) == hertz
        assert found.incomplete is None and abs(len(found.samples) / SAMPLE_RATE - 2) < 0.2
    for track in (4, 1000):
        words = "has 3 audio tracks; give --audio_track another number, or leave it out"
        with (tmp_path / "film.mkv").open("rb", buffering=0) as file, pytest.raises(InputError, match=words):
            isolation.decode(file, track)


def test_the_command(main: Run, samples: Path, tmp_path: Path) -> None:
    """Another track is another result: with --skip_existing it is done again."""
    words = audiofile.decode(samples / "short.flac").samples
    (tmp_path / "film.mkv").write_bytes(video(np.zeros_like(words), words))
    out = ["-o", tmp_path / "out", "--skip_existing"]
    for track, said in (("1", False), ("2", True)):
        done = main("--audio_track", track, *out, tmp_path / "film.mkv")
        assert (done.returncode, errors(done)) == (0, [])
        assert ("zero" in (tmp_path / "out/film.txt").read_text()) == said
    done = main("--audio_track", "2", samples / "short.flac", tmp_path / "film.mkv")
    assert done.returncode == 1 and "zero" in done.stdout
    (line,) = errors(done)
    assert line.endswith(
        "short.flac: has one audio track; give --audio_track another number, or leave it out"
    )
    assert main("--quiet", "--audio_track", "1", samples / "short.flac").returncode == 0
