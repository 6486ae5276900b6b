"""A recording on its way from a file to samples and speech, in the background.

That is done while the model is loaded, and later while the recording before it is transcribed.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import audio
import vad
from storage import InputError
from timing import Log


@dataclass(frozen=True)
class Heard:
    """A recording: [samples] at 16 kHz, and where in it there is speech."""

    samples: audio.Samples
    speech: list[vad.Stretch]

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / audio.SAMPLE_RATE


class Listening:
    """One recording being read. The thread imports nothing, as torch may be being imported meanwhile."""

    def __init__(self, path: Path, detector: vad.Detector, log: Log) -> None:
        """Begin; returns at once."""
        self.path, self._detector, self._log = path, detector, log
        self._heard: Future[Heard] = Future()
        Thread(target=self._listen, daemon=True).start()

    def result(self) -> Heard:
        """Wait for it. Raises storage.InputError."""
        return self._heard.result()

    def _listen(self) -> None:
        try:
            with self._log.phase("decode audio"):
                samples = audio.decode(self.path)
            with self._log.phase("find speech"):
                speech = vad.spoken(self._detector.probabilities(samples), len(samples))
            self._heard.set_result(Heard(samples, speech))
        except OSError as error:  # it was there when storage.check looked
            reason = f"cannot be read: {error.strerror}; check that it is still there"
            self._heard.set_exception(InputError(reason))
        except Exception as error:  # for the thread that waits
            self._heard.set_exception(error)
