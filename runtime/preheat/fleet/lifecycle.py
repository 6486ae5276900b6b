"""A worker's time on an instance: from ready to the end that the instance, its group or systemd gives it."""

import os
import time
import traceback
from collections.abc import Callable
from threading import Lock

from preheat.fleet import policy
from preheat.fleet.group import Group
from preheat.fleet.intake import Intake
from preheat.fleet.notice import Notice
from preheat.fleet.sender import Sender
from preheat.fleet.worker import Worker
from preheat.places.aws import AwsError
from preheat.threads import start
from preheat.timing import tell, warn

BROKEN = 4  # exit code: a fault of ours
FLUSH = 5.0  # s for the last job records
TERMINATION_WAIT = 180.0  # s that an instance waits for its end, having asked for it


class Lifecycle:
    """Runs a worker until its end."""

    def __init__(
        self, worker: Worker, notice: Notice, group: Group | None, sender: Sender | None, idle: float
    ) -> None:
        """`idle`: seconds without work after which the instance ends itself, if it is in a group."""
        self._worker, self._notice, self._group, self._sender = worker, notice, group, sender
        self._intake = Intake(worker, notice, idle)
        self._over = self._broken = False
        self._leaving = Lock()

    def run(self, ready: Callable[[], None], alive: Callable[[], None]) -> int:
        """Work until the end; the exit code.

        `ready` is called once, when the queue has answered; `alive` as long as there is
        progress, or nothing to do.
        """
        start(lambda: self._watch(alive))
        start(lambda: self._take_messages(ready))
        while not (self._over or (self._notice.deadline is not None and self._worker.in_flight.empty)):
            self._worker.work(0.2)
            if self._worker.outcomes.faults >= policy.FAULTS:
                warn(f"{policy.FAULTS} faults in a row: the worker ends, and hands back what it has")
                self._over = self._broken = True
        self._leave()
        return BROKEN if self._broken else 0

    def _take_messages(self, ready: Callable[[], None]) -> None:
        """The thread that feeds the worker. Without it nothing would ever end the instance."""
        try:
            self._intake.run(ready, self._end_instance)
        except Exception:
            warn("no more messages are taken, by a bug in the worker; please report it with the lines below")
            traceback.print_exc()
            self._over = self._broken = True

    def _leave(self) -> None:
        self._leaving.acquire()  # for ever: the process ends in the thread that has it
        self._notice.leave(0)  # no more messages are taken
        self._worker.outcomes.give_back()
        if self._sender:
            self._sender.flush(FLUSH)
        if self._group and self._notice.ends:
            try:
                self._group.complete_hook()
            except AwsError as error:
                warn(f"{error}; the group waits until its hook times out")

    def _watch(self, alive: Callable[[], None]) -> None:
        """The thread that tells of progress, and ends the process in time, whatever the model is doing."""
        steps = 0
        while True:
            self._notice.wait(0.5)
            before, steps = steps, self._worker.in_flight.steps
            if steps != before:
                alive()
            if (when := self._notice.deadline) is not None and time.time() >= when - policy.MARGIN:
                self._leave()
                os._exit(0)

    def _end_instance(self) -> None:
        """End the instance, and wait for its end. If that cannot be, the work goes on."""
        self._worker.in_flight.restart_idle()
        if not self._group:
            return
        try:
            self._group.end_instance()
        except AwsError as error:
            warn(f"{error}; the worker goes on")
            return
        say("nothing to do: the instance ends itself")
        until = time.monotonic() + TERMINATION_WAIT
        while self._notice.deadline is None and time.monotonic() < until:
            self._notice.wait(1.0)
        self._over = True


def say(text: str) -> None:
    """A line for the journal."""
    tell("info", text, f"worker: {text}", {})
