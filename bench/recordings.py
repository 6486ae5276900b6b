"""The time to read recordings: by libsndfile in this process, or by FFmpeg's libraries in a helper process.

    .venv/bin/python -m bench.recordings [--minutes 10] [--runs 3]

writes speech of that length, 44.1 kHz stereo, in each format, and reads it with audiofile.py and, if
libsndfile knows the format, with libsndfile and soxr alone. Prints the time of the fastest run, the time
until the helper process with FFmpeg's libraries first answers, its memory, and the libraries' size on disk.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from bench.harness import ROOT, SAMPLES, describe, machine, table
from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE

RATE = 44_100  # Hz
BY_SOUNDFILE = {"wav": ("WAV", None), "flac": ("FLAC", None), "mp3": ("MP3", None), "ogg": ("OGG", "VORBIS")}
BY_AV = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus")}


def write(folder: Path, minutes: float) -> list[Path]:
    """Write the recordings and return their paths."""
    speech, rate = soundfile.read(SAMPLES / "long.flac", dtype="float32")
    sound = soxr.resample(speech, rate, RATE)
    sound = np.resize(sound, round(minutes * 60 * RATE))
    stereo = np.stack([sound, sound / 2], axis=1)
    for name, (form, subtype) in BY_SOUNDFILE.items():
        with soundfile.SoundFile(folder / name, "w", RATE, 2, subtype, format=form) as file:
            for start in range(0, len(stereo), RATE):  # libvorbis overflows the stack if it gets all at once
                file.write(stereo[start : start + RATE])
    for name, (form, codec) in BY_AV.items():
        with av.open(str(folder / name), "w", format=form) as container:
            stream: Any = container.add_stream(codec, rate=48_000 if codec == "libopus" else RATE)
            stream.layout = "stereo"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo.T), format="fltp", layout="stereo")
            frame.sample_rate = RATE
            resampler = av.AudioResampler(stream.format, "stereo", stream.rate)
            for each in [*resampler.resample(frame), *resampler.resample(None), None]:
                container.mux(stream.encode(each))
    return [folder / name for name in (*BY_SOUNDFILE, *BY_AV)]


def alone(path: Path) -> None:
    """Read and resample with libsndfile and soxr only, block by block."""
    with soundfile.SoundFile(path.open("rb")) as file:
        resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
        blocks = [resampler.resample_chunk(b.mean(axis=1)) for b in file.blocks(1 << 19, dtype="float32")]
    np.concatenate(blocks)


def seconds(work: Callable[[Path], object], path: Path, runs: int) -> float:
    """The seconds of the fastest run."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        work(path)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    print(describe(machine(ROOT)))
    first = seconds(audiofile.decode, ROOT / "tests/fixtures/recordings/phone.amr", 1)
    again = seconds(audiofile.decode, ROOT / "tests/fixtures/recordings/phone.amr", args.runs)
    rows = []
    with TemporaryDirectory() as folder:
        for path in write(Path(folder), args.minutes):
            ours = seconds(audiofile.decode, path, args.runs)
            theirs = seconds(alone, path, args.runs) if path.name in BY_SOUNDFILE else None
            rows.append((
                path.name,
                f"{path.stat().st_size / 1e6:.1f} MB",
                f"{ours:.2f} s",
                f"{args.minutes * 60 / ours:,.0f}",
                f"{theirs:.2f} s" if theirs else "-",
                f"{ours / theirs:.2f}" if theirs else "-",
            ))  # fmt: skip
    print(f"{args.minutes:g} minutes, 44.1 kHz stereo; best of {args.runs}")
    print(table(("format", "size", "ours", "times real time", "libsndfile alone", "ours, to it"), rows, 1))
    size = sum(Path(file.locate()).stat().st_size for file in files("av") or [])
    print(f"first answer of the helper {first:.2f} s, a short recording then {again:.3f} s")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"its greatest process {memory:.0f} MB of memory")
    print(f"av on the disk {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
