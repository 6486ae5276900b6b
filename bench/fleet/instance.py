"""A model of an instance and of the worker on it, which decides by the product's own code."""

from bench.fleet.aws import Group, Queue
from bench.fleet.clock import Clock
from bench.fleet.inputs import Inputs, Range
from bench.fleet.scenario import Recording
from factory.ec2.template import parameters
from preheat.fleet import policy
from preheat.fleet.queue import RENEWAL, VISIBILITY

NOTICE = 120.0  # seconds from a spot notice to the end
IDLE = 60.0 * parameters()["IdleMinutes"]["Default"]  # seconds without work, then an instance ends itself
VISIBLE_AGAIN: Range = (VISIBILITY - RENEWAL, VISIBILITY)  # seconds after a worker's death
SHORTEST_BILL = 60.0  # seconds that EC2 charges at least


class Instance:
    """From the launch request to the end."""

    def __init__(self, clock: Clock, inputs: Inputs, queue: Queue, group: Group, zone: int) -> None:
        self.clock, self.inputs, self.queue, self.group, self.zone = clock, inputs, queue, group, zone
        self.launched = clock.now
        self.started: float | None = None
        self.ended: float | None = None
        self.booted = self.ready = self.idle_since = 0.0
        self.interrupted = self.draining = False
        self.hand: dict[Recording, float] = {}  # received, not yet transcribed; when each is fetched
        self._fetched = self._free = 0.0  # when the last fetch, and the model's last recording, are done
        self._polls = 0
        clock.after(clock.draw(inputs.running), self._start)

    def billed(self, now: float) -> float:
        """Seconds that EC2 charges until now."""
        if self.started is None:
            return 0.0
        return max(SHORTEST_BILL, (now if self.ended is None else self.ended) - self.started)

    def _start(self) -> None:
        """The instance runs, boots and loads the model, and may be interrupted from now on."""
        self.started = self.clock.now
        self.booted = self.started + self.clock.draw(self.inputs.boot)
        self.ready = self.idle_since = self.booted + self.clock.draw(self.inputs.load)
        self.clock.at(self.ready, self._poll)
        if rate := self.group.scenario.interrupted:
            self.clock.after(self.clock.random.expovariate(rate / 3600), self._interrupt)

    def _poll(self) -> None:
        """Take what there is room for; if nothing is there, wait for it in a long poll."""
        self._polls += 1
        if self.draining or self.ended is not None:
            return
        room = policy.room(len(self.hand), self._audio(), self._bytes())
        if not room:
            return  # polls again when a recording is done
        taken = self.queue.receive(1 if self._polls == 1 else room)
        for recording in taken:
            self._take(recording)
        if taken:
            self.clock.after(self.clock.draw(self.inputs.fixed), self._poll)
        else:
            self.queue.polls.append(self._poll)
            self.clock.after(policy.poll(self._idle(), IDLE), self._empty, self._polls)

    def _empty(self, poll: int) -> None:
        """A long poll has ended without a message: the instance ends itself, or polls again."""
        if poll != self._polls or self.draining or self.ended is not None:
            return
        self.queue.polls.remove(self._poll)
        if not (policy.idle_end(self._idle(), IDLE, empty_poll=True) and self.group.terminate(self)):
            self._poll()

    def _idle(self) -> float:
        """Seconds without work."""
        return 0.0 if self.hand else self.clock.now - self.idle_since

    def _audio(self) -> float:
        """Seconds of audio in hand of what is fetched."""
        return sum(each.seconds for each, fetched in self.hand.items() if fetched <= self.clock.now)

    def _bytes(self) -> int:
        """Bytes in hand of what is still to be fetched."""
        left = sum(each.seconds for each, fetched in self.hand.items() if fetched > self.clock.now)
        return int(left * self.inputs.bytes * 1e6)

    def _take(self, recording: Recording) -> None:
        """Fetch a recording while the model is busy with those before it, and transcribe it."""
        self._fetched = (
            max(self.clock.now, self._fetched) + recording.seconds * self.inputs.bytes / self.inputs.fetch
        )
        self._free = max(self._fetched, self._free) + recording.seconds / self.inputs.speed
        self.hand[recording] = self._fetched
        self.clock.at(self._free + self.clock.draw(self.inputs.fixed), self._finish, recording)

    def _finish(self, recording: Recording) -> None:
        """The transcript is written and the message deleted, unless the recording was handed back."""
        if recording not in self.hand:
            return
        now = self.idle_since = self.clock.now
        del self.hand[recording]
        self.queue.delete()
        recording.transcripts.append(now)
        ends = {"wake": self.launched, "launch": self.started or 0.0, "boot": self.booted}
        ends |= {"load": self.ready, "transcribe": now}
        recording.phases = {name: max(0.0, end - recording.uploaded) for name, end in ends.items()}
        if self._poll not in self.queue.polls:
            self._poll()

    def _interrupt(self) -> None:
        """EC2 takes the instance back, with a notice or without."""
        if self.ended is not None:
            return
        self.interrupted = True
        if self.clock.random.random() < self.inputs.noticed:
            self._stop_polling()
            self.clock.after(NOTICE - policy.MARGIN, self._hand_back)
            self.clock.after(NOTICE, self._die)
        else:
            self._die()

    def _stop_polling(self) -> None:
        self.draining = True
        if self._poll in self.queue.polls:
            self.queue.polls.remove(self._poll)

    def _hand_back(self) -> None:
        """What is not done becomes visible to other workers at once."""
        given, self.hand = self.hand, {}
        for recording in given:
            self.queue.release(recording)

    def _die(self) -> None:
        """The instance is gone; what it had in hand becomes visible when its visibility ends."""
        self._stop_polling()
        self.group.lose(self)
        given, self.hand = self.hand, {}
        for recording in given:
            self.clock.after(self.clock.draw(VISIBLE_AGAIN), self.queue.release, recording)
