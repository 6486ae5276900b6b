"""A recording on its way from a file to samples and speech, in the background.

That is done while the model is loaded, and later while the recording before it is transcribed.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import BinaryIO

from preheat import memory
from preheat.audio import audiofile, loudness, vad
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from preheat.storage import InputError
from preheat.threads import start
from preheat.timing import Log


@dataclass(frozen=True)
class Heard:
    """A recording: [samples] at 16 kHz, and where in it there is speech."""

    samples: Samples
    speech: list[vad.Stretch]
    incomplete: str | None = None  # what is missing of it, as a line for the user

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / SAMPLE_RATE


class Listening:
    """One recording being read. The thread imports nothing, as torch may be being imported meanwhile."""

    def __init__(self, opened: Callable[[], BinaryIO], track: int, detector: vad.Detector, log: Log) -> None:
        """Begin; returns at once. `opened` gives the file; it and `track` as of audiofile.decode_file."""
        self._opened, self._track, self._detector, self._log = opened, track, detector, log
        self._heard: Future[Heard] = Future()
        if not start(self._listen):  # the system has no thread left
            self._listen()

    def result(self) -> Heard:
        """Wait for it. Raises storage.InputError, and whatever else may happen to a recording."""
        return self._heard.result()

    def _listen(self) -> None:
        try:
            with self._log.phase("decode audio"), self._opened() as file:
                recording = audiofile.decode_file(file, self._track)
            samples = recording.samples
            with self._log.phase("find speech"):
                probabilities = self._detector.probabilities(loudness.audible(samples))
                speech = vad.spoken(probabilities, len(samples))
            self._heard.set_result(Heard(samples, speech, recording.incomplete))
        except OSError as error:  # it was there when storage.check looked
            reason = f"cannot be read: {error.strerror}; check that it is still there"
            self._heard.set_exception(error if memory.shortage(error) else InputError(reason))
        except BaseException as error:  # for the thread that waits
            self._heard.set_exception(error)
