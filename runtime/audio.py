"""Recordings in, samples out. Nothing here needs torch: it is done while torch is being imported."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from storage import InputError

SAMPLE_RATE = 16000  # Hz
BLOCK = 1 << 20  # samples of each channel decoded at a time

STREAMED = 0x7FFF0000  # bytes: such a length means "to the end" in a wav file written to a pipe

Samples = NDArray[np.float32]


def decode(path: Path) -> Samples:
    """A recording as [samples] float32 at 16 kHz, mono (the mean of all channels), about -1 to 1.

    Reads what libsndfile reads (wav, flac, mp3, ogg, …), and everything else through ffmpeg if it is on
    PATH. Raises InputError.
    """
    # Handed over by descriptor: from the name libsndfile would guess, and take any *.mp3 for one.
    with path.open("rb") as opened:
        check_length(path)
        try:
            file = soundfile.SoundFile(opened.fileno(), closefd=False)
        except soundfile.LibsndfileError:
            samples = decode_with_ffmpeg(path)
        else:
            with file:
                samples = resample(file)
    if len(samples) == 0:
        raise InputError("holds no sound (0 samples); record it again")
    if not np.isfinite(samples).all():
        raise InputError("holds samples that are not numbers; export it again from its source")
    return samples


def resample(file: soundfile.SoundFile) -> Samples:
    """All of an open recording, mono and at 16 kHz; a block at a time, to hold it in memory once only."""
    resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
    blocks = []
    last = False
    while not last:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = file.tell() / file.samplerate
            raise InputError(f"is damaged or cut short after {at:.0f} s; copy it again") from error
        last = len(block) < BLOCK
        blocks.append(resampler.resample_chunk(block.mean(axis=1), last=last))
    return np.concatenate(blocks)


def check_length(path: Path) -> None:
    """Raise InputError for a wav file shorter than its header says; libsndfile would take what is there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12))
        if (riff, wave) != (b"RIFF", b"WAVE"):
            return
        while len(chunk := file.read(8)) == 8:  # noqa: PLR2004  bytes: a name and a length
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":
                if file.tell() + length > size and length < STREAMED:
                    found = size - file.tell()
                    raise InputError(f"is cut short: {found:,} of {length:,} bytes of sound; copy it again")
                return
            file.seek(length + length % 2, os.SEEK_CUR)


def decode_with_ffmpeg(path: Path) -> Samples:
    """A recording that libsndfile does not know. Raises InputError."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None and looks_like_container(path):
        raise InputError("needs ffmpeg, as m4a, aac, mp4 and webm do; install it: apt-get install ffmpeg")
    if ffmpeg is None:
        raise InputError("is not a recording, or damaged at its start; give a wav, flac, mp3 or ogg file")
    # "file:" keeps a name like concat:x from being taken for a protocol.
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-i", f"file:{path}", "-vn"]
    command += ["-f", "f32le", "-ac", "1", "-ar", str(SAMPLE_RATE), "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise InputError(f"is not a recording, or damaged: ffmpeg says {reason!r}; copy or export it again")
    return np.frombuffer(done.stdout, np.float32).copy()


def looks_like_container(path: Path) -> bool:
    """Whether the file starts as mp4 and m4a, webm and mkv, or raw AAC do."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:] == b"ftyp" or head.startswith((b"\x1a\x45\xdf\xa3", b"\xff\xf1", b"\xff\xf9"))
