"""Takes messages from the queue, as long as there is room and nothing is said of the instance's end."""

import math
import time
from collections.abc import Callable

from preheat.fleet import policy
from preheat.fleet.notice import Notice
from preheat.fleet.queue import Message
from preheat.fleet.worker import Worker
from preheat.places.aws import AwsError
from preheat.timing import warn


class Intake:
    """Feeds a worker; it has a thread of its own."""

    def __init__(self, worker: Worker, notice: Notice, idle: float) -> None:
        """`idle`: seconds without work after which the instance is to end."""
        self._worker, self._notice, self._idle = worker, notice, idle
        self._ready = False
        self._alone = True  # one message at first: it may be one that has killed the worker before
        self._unanswered = 0  # polls in a row
        self._failed = 0  # jobs in a row, when the queue was asked last

    def run(self, ready: Callable[[], None], end: Callable[[], None]) -> None:
        """Work until the instance, or the process, is about to end.

        `ready` is called once, when the queue has answered; `end` when there has been no work for long.
        """
        while self._notice.deadline is None:
            if self._worker.in_flight.empty:
                self._worker.in_flight.note_step()  # else only the work itself counts
            takes = self._notice.takes
            if takes and not self._room():
                self._worker.in_flight.wait(1.0)
                continue
            found = self._receive() if takes else []
            if found is None:
                continue
            if not self._ready:
                ready()
                self._ready = True
            for message in sorted(found, key=lambda each: each.attempt):
                self._admit(message)
            if not takes:
                self._notice.wait(1.0)
            if policy.idle_end(self._worker.in_flight.idle, self._limit(takes), empty_poll=not found):
                end()

    def _room(self) -> int:
        """How many messages to ask for; at risk of being taken away, the worker has one at a time."""
        in_flight = self._worker.in_flight
        if self._notice.rebalance:
            return int(in_flight.empty)
        return min(in_flight.room(), 1) if self._alone else in_flight.room()

    def _limit(self, takes: bool) -> float:
        """How long the instance may be idle; one that EC2 may take away has nothing to wait for."""
        if self._notice.rebalance:
            return min(self._idle, policy.AT_RISK)
        return self._idle if takes else math.inf

    def _receive(self) -> list[Message] | None:
        """Ask for messages; None if the queue cannot be reached."""
        failed = self._worker.outcomes.failures
        if failed > self._failed:  # S3 may be out of reach: spare the messages
            time.sleep(policy.pause_of_queue(failed))
        self._failed = failed
        in_flight = self._worker.in_flight
        try:
            wait = policy.poll(in_flight.idle, self._limit(takes=True)) if self._ready else 0
            found = self._worker.queue.receive(max(self._room(), 1), wait)
        except AwsError as error:
            if self._notice.deadline is not None:
                return None
            self._unanswered += 1
            seconds = policy.pause_of_queue(self._unanswered)
            warn(f"{error}; the queue is asked again in {seconds:.0f} s")
            time.sleep(seconds)
            return None
        self._unanswered = 0
        self._alone = any(each.attempt >= policy.SUSPECT for each in found)
        return found

    def _admit(self, message: Message) -> None:
        """Give a message to the worker; one that may kill it has the worker for itself."""
        suspect = message.attempt >= policy.SUSPECT
        if suspect:
            self._wait_until_empty()
        if self._notice.deadline is None:
            self._worker.take(message)
        if suspect:
            self._wait_until_empty()

    def _wait_until_empty(self) -> None:
        while not self._worker.in_flight.empty and self._notice.deadline is None:
            self._worker.in_flight.wait(1.0)
