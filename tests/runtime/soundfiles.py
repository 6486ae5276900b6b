"""Recordings of every kind, made here: by libsndfile, by FFmpeg's libraries, and by hand."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import av
import numpy as np
import soundfile
import soxr

from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples

RECORDINGS = Path(__file__).resolve().parents[1] / "fixtures/recordings"


def chirp(seconds: float, rate: int = SAMPLE_RATE) -> Samples:
    """A tone from 200 to 3000 Hz, which every codec keeps."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 1400 * time / seconds) * time)).astype(np.float32)


def by_soundfile(form: str, subtype: str | None = None) -> Callable[..., bytes]:
    """A writer of [samples] in one of libsndfile's formats, at any rate, in any number of channels."""

    def write(sound: Samples, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
        file = io.BytesIO()
        sound = soxr.resample(sound, SAMPLE_RATE, rate)
        soundfile.write(file, np.stack([sound] * channels, axis=1), rate, format=form, subtype=subtype)
        return file.getvalue()

    return write


def by_av(form: str, codec: str, rate: int = SAMPLE_RATE, **options: str) -> Callable[[Samples], bytes]:
    """A writer of [samples] in one of FFmpeg's formats, at one rate."""

    def write(sound: Samples) -> bytes:
        with NamedTemporaryFile() as file:  # to put the index in front, FFmpeg reopens the file by name
            encode(sound, file.name)
            return file.read()

    def encode(sound: Samples, name: str) -> None:
        with av.open(name, "w", format=form, options=options) as container:
            stream = container.add_stream(codec, rate=rate)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            resampler = av.AudioResampler(stream.format, "mono", rate)
            for each in [*resampler.resample(frame), *resampler.resample(None), None]:
                container.mux(stream.encode(each))

    return write


def patched(content: bytes, mark: bytes, skip: int, patch: bytes) -> bytes:
    """The content with `patch` written `skip` bytes after the end of the first `mark`."""
    at = content.index(mark) + len(mark) + skip
    return content[:at] + patch + content[at + len(patch) :]


WRITERS = {
    "wav": by_soundfile("WAV"),
    "float.wav": by_soundfile("WAV", "FLOAT"),
    "adpcm.wav": by_soundfile("WAV", "IMA_ADPCM"),
    "rf64": by_soundfile("RF64"),
    "w64": by_soundfile("W64"),
    "caf": by_soundfile("CAF"),
    "aiff": by_soundfile("AIFF"),
    "au": by_soundfile("AU"),
    "flac": by_soundfile("FLAC"),
    "mp3": by_soundfile("MP3"),
    "ogg": by_soundfile("OGG", "VORBIS"),
    "opus": by_soundfile("OGG", "OPUS"),
    "mp4": by_av("mp4", "aac"),
    "m4a": by_av("ipod", "aac", movflags="+faststart"),
    "alac.m4a": by_av("ipod", "alac", movflags="+faststart"),
    "fragmented.mp4": by_av("mp4", "aac", movflags="+frag_keyframe+empty_moov", frag_duration="1000000"),
    "mov": by_av("mov", "aac", movflags="+faststart"),
    "3gp": by_av("3gp", "libopencore_amrnb", 8000, movflags="+faststart"),
    "aac": by_av("adts", "aac"),
    "webm": by_av("webm", "libopus", 48000),
    "live.webm": by_av("webm", "libopus", 48000, live="1"),  # as browsers record: without a length
    "mka": by_av("matroska", "libmp3lame"),
    "amr": by_av("amr", "libopencore_amrnb", 8000),
    "wv": by_av("wv", "wavpack"),
    "tta": by_av("tta", "tta"),
    "ts": by_av("mpegts", "aac"),
    "flv": by_av("flv", "aac", 44100),
    "avi": by_av("avi", "libmp3lame"),
}


def piped() -> bytes:
    """The words of flac-in-ogg.oga as FLAC that was written to a pipe: its 36 bits of total samples are 0."""
    content = WRITERS["flac"](audiofile.decode(RECORDINGS / "flac-in-ogg.oga").samples)
    return content[:21] + bytes([content[21] & 0xF0]) + bytes(4) + content[26:]


def wav_with(sound: Samples, length: int, *, behind: bytes = b"") -> bytes:
    """A wav file whose header claims a number of bytes of sound, with something behind the sound."""
    return patched(WRITERS["wav"](sound), b"data", 0, struct.pack("<I", length)) + behind
