"""Decodes recordings to samples. Nothing here needs torch: it runs while torch is being imported.

There are two readers. A plain wav or flac file, whose header proves its length (headers.py), is decoded by
libsndfile in this process. Everything else, including a plain file that turns out to be damaged, is decoded
by FFmpeg's libraries in a separate process (isolation.py). Only the second reader decides whether a recording
is complete.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from preheat.audio import isolation
from preheat.audio.constants import SAMPLE_RATE, TIME_PRECISION
from preheat.audio.headers import Plain, plain
from preheat.audio.mixing import LONGEST, Mixer, Samples, too_long
from preheat.storage import InputError

BLOCK = 1 << 20  # samples, of all channels together, decoded at a time
LEAST = TIME_PRECISION * SAMPLE_RATE  # samples: the resolution of Whisper's timestamps
LOUD = 2.0  # samples meant to lie within ±1 never exceed this: lossy codecs overshoot by less
LEVEL_FROM = 60 * SAMPLE_RATE  # samples from the first one above LOUD, over which the level is measured


@dataclass(frozen=True)
class Recording:
    """What was decoded of a file."""

    samples: Samples  # [samples] at 16 kHz, mono, about -1 to 1
    incomplete: str | None = None  # what is missing, as a line for the user; None if nothing is
    channels: int = 1  # of the file


def decode(path: Path) -> Recording:
    """Read a recording in any format that FFmpeg reads; a truncated or damaged one as far as possible.

    Raises InputError if there is nothing to transcribe, and OSError.
    """
    with path.open("rb", buffering=0) as file:
        return decode_file(file)


def decode_file(file: BinaryIO, track: int = 0, channel: int = 0) -> Recording:
    """Like `decode`, for an open file; it must be unbuffered, as libraries read from its descriptor.

    `track`: number of the audio track, from 1; 0: the main one. `channel`: likewise; 0: all of them, mixed.
    """
    # Passed by descriptor: libsndfile would guess the format from a name, and take any *.mp3 for MP3.
    header = plain(file)
    samples = read_plain(file, header, channel) if header and track <= 1 else None
    if header is None or samples is None:
        return checked(Recording(*isolation.decode(file, track, channel)))
    return checked(Recording(samples, channels=header.channels))


def sampled(samples: NDArray[Any]) -> Recording:
    """A recording that the caller has decoded: [samples] at 16 kHz, mono. Raises InputError.

    The array is copied only if its dtype or memory layout requires it.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise InputError(f"has the shape {samples.shape}; pass one channel, as [samples]")
    if samples.dtype.kind != "f":
        raise InputError(
            f"has the dtype {samples.dtype}; pass floats from -1 to 1, such as int16 divided by 32768"
        )
    if len(samples) > LONGEST * SAMPLE_RATE:
        too_long(len(samples) / SAMPLE_RATE)
    # torch expects a writable array, although nothing is written to it.
    return checked(Recording(np.require(samples, np.float32, ["C", "W"])))


def checked(found: Recording) -> Recording:
    """The recording, with its samples brought into range. Raises InputError if it has no audio."""
    if len(found.samples) < LEAST:
        nothing = f"has no audio ({len(found.samples)} samples); record it again"
        raise InputError(found.incomplete or nothing)
    return replace(found, samples=within_range(found.samples))


def read_plain(file: BinaryIO, header: Plain, channel: int = 0) -> Samples | None:
    """The samples of a plain file; None if libsndfile does not find what the header says.

    `channel`: see Mixer. Raises InputError if rate, channels or length are out of range.
    """
    mixer = Mixer(header.rate, header.channels, channel)
    if header.frames / header.rate > LONGEST:
        too_long(header.frames / header.rate)
    file.seek(0)
    samples, frames = np.empty(0, np.float32), 0
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as opened:
            if (opened.samplerate, opened.channels) != mixer.format:
                return None
            size = max(BLOCK // header.channels, 1)
            while len(block := opened.read(size, dtype="float32", always_2d=True)):
                frames += len(block)
                append(samples, mixer.mix(block))
    except soundfile.LibsndfileError:
        return None
    append(samples, mixer.rest())
    return samples if frames == header.frames else None


def append(samples: Samples, block: Samples) -> None:
    """Make an array longer where it is: joining blocks would take the memory twice, 2.3 GB for ten hours.

    Nor is it made as long as a header claims, which may be forged.
    """
    end = len(samples)
    samples.resize(end + len(block), refcheck=False)
    samples[end:] = block


def within_range(samples: Samples) -> Samples:
    """Scale samples that far exceed ±1, as some programs write integer values as floats, to fit.

    The level is a quantile over a minute, so that a few clicks do not determine it. Raises InputError.
    """
    peak = max(samples.max(), -samples.min())
    if not np.isfinite(peak):
        raise InputError("has samples that are NaN or infinite; export it again from its source")
    if peak <= LOUD:
        return samples
    first = int((np.abs(samples) > LOUD).argmax())
    level = float(np.quantile(np.abs(samples[first : first + LEVEL_FROM]), 0.999))
    fitting: Samples = np.clip(samples / max(2 * level, 1), -LOUD, LOUD)
    return fitting
