"""What a worker has in flight: how much of it there may be, and when a message's work is done."""

import time
from threading import Condition

from preheat.fleet import policy
from preheat.fleet.queue import Message


class InFlight:
    """Messages with jobs that are not done, seconds of audio that wait for the model, bytes being fetched."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._left: dict[Message, int] = {}  # jobs
        self._pause: dict[Message, float] = {}  # s, of messages with a job that failed for the moment
        self._audio, self._announced, self._fetched = 0.0, 0, 0
        self._idle_from = time.monotonic()
        self._steps = 0

    @property
    def steps(self) -> int:
        """How many steps the worker has made: a worker without new ones for long is taken to hang."""
        with self._changed:
            return self._steps

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        with self._changed:
            return not self._left

    @property
    def idle(self) -> float:
        """Seconds since there was something to do; 0 if there is now."""
        with self._changed:
            return 0.0 if self._left else time.monotonic() - self._idle_from

    @property
    def fetched(self) -> int:
        """Bytes on the disk, or on their way there."""
        with self._changed:
            return self._fetched

    def note_step(self) -> None:
        """Count a step that changes nothing here."""
        with self._changed:
            self._step()

    def restart_idle(self) -> None:
        """Count `idle` from now."""
        with self._changed:
            self._idle_from = time.monotonic()

    def room(self) -> int:
        """How many messages to ask for."""
        with self._changed:
            return policy.room(len(self._left), self._audio, self._announced)

    def wait(self, seconds: float) -> None:
        """Wait for a change, at most so long."""
        with self._changed:
            self._changed.wait(seconds)

    def add(self, message: Message, jobs: int) -> None:
        """A message with so many jobs."""
        with self._changed:
            self._left[message] = jobs
            self._step()

    def done(self, message: Message, pause: float | None = None) -> bool:
        """One of its jobs is done, or failed and to be tried after `pause`; whether it was the last one."""
        with self._changed:
            self._left[message] -= 1
            if pause is not None:
                self._pause[message] = pause
            return self._left[message] == 0

    def pause(self, message: Message) -> float | None:
        """Seconds until a message is to be tried again; None if all its jobs are done."""
        with self._changed:
            return self._pause.get(message)

    def drop(self, message: Message) -> None:
        """The message is no longer in flight."""
        with self._changed:
            del self._left[message]
            self._pause.pop(message, None)
            self._idle_from = time.monotonic()
            self._step()

    def announce(self, size: int) -> None:
        """So many bytes of recordings more, or less, are yet to be decoded."""
        with self._changed:
            self._announced += size
            self._step()

    def reserve(self, size: int) -> None:
        """Wait until so many bytes may be fetched."""
        with self._changed:
            self._changed.wait_for(lambda: policy.fits(size, self._fetched))
            self._fetched += size
            self._step()

    def free(self, size: int) -> None:
        """What was reserved is not needed any more."""
        with self._changed:
            self._fetched -= size
            self._step()

    def wait_for_audio_room(self) -> None:
        """Wait until there is room for more audio."""
        with self._changed:
            self._changed.wait_for(lambda: self._audio < policy.AUDIO)

    def add_audio(self, seconds: float) -> None:
        """So many seconds of audio more, or less, wait for the model."""
        with self._changed:
            self._audio += seconds
            self._step()

    def _step(self) -> None:
        self._steps += 1
        self._changed.notify_all()
