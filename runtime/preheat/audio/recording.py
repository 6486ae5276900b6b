"""Reads a recording in the background: decodes it, and finds the speech in it.

That happens while the model is loaded, and later while the previous recording is transcribed.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import BinaryIO

from preheat import memory
from preheat.audio import audiofile, loudness, vad
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.options import Options
from preheat.storage import InputError
from preheat.threads import start
from preheat.timing import Log

STEREO = ["left", "right"]


@dataclass(frozen=True)
class Prepared:
    """A recording, or a channel of it: [samples] at 16 kHz, and where in it there is speech."""

    samples: Samples
    speech: list[vad.Span]
    incomplete: str | None = None  # what is missing of it, as a line for the user
    channel: str | None = None  # the channel's name, if each is transcribed on its own

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / SAMPLE_RATE


def prepare(
    recording: audiofile.Recording,
    detector: vad.Detector,
    options: Options,
    log: Log,
    channel: str | None = None,
) -> Prepared:
    """Find out where in a recording there is speech."""
    with log.phase("find speech"):
        probabilities = detector.probabilities(loudness.audible(recording.samples))
        speech = vad.spoken(probabilities, len(recording.samples), options)
    return Prepared(recording.samples, speech, recording.incomplete, channel)


def channels(file: BinaryIO, options: Options) -> dict[str | None, audiofile.Recording]:
    """By name, each channel of a recording if Options.channels asks for that; else the whole one as None."""
    first = audiofile.decode_file(file, options.audio_track, int(options.channels))
    if not options.channels:
        return {None: first}
    numbers = range(2, first.channels + 1)
    found = [first, *(audiofile.decode_file(file, options.audio_track, number) for number in numbers)]
    names = STEREO if len(found) == len(STEREO) else [str(number) for number in range(1, len(found) + 1)]
    return dict(zip(names, found, strict=True))


class Reader:
    """One recording being read in a thread, which imports nothing: torch may be being imported meanwhile."""

    def __init__(
        self, opened: Callable[[], BinaryIO], detector: vad.Detector, options: Options, log: Log
    ) -> None:
        """Start reading; returns at once. `opened` opens the file for audiofile.decode_file: unbuffered."""
        self._opened, self._detector, self._options, self._log = opened, detector, options, log
        self._prepared: Future[list[Prepared]] = Future()
        if not start(self._read):  # the system has no thread left
            self._read()

    def result(self) -> list[Prepared]:
        """Wait for the recording, or its channels. Raises storage.InputError, and what the thread raised."""
        return self._prepared.result()

    def _read(self) -> None:
        try:
            with self._log.phase("decode audio"), self._opened() as file:
                found = channels(file, self._options)
            rest = (self._detector, self._options, self._log)
            self._prepared.set_result([prepare(found[name], *rest, name) for name in found])
        except OSError as error:  # storage.check has found it readable before
            reason = f"cannot be read: {error.strerror}; check that it still exists"
            self._prepared.set_exception(error if memory.shortage(error) else InputError(reason))
        except BaseException as error:  # passed on to the waiting thread
            self._prepared.set_exception(error)
