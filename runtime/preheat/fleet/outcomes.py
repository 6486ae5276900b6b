"""What becomes of messages and their jobs: records, deletion, another try, or back to the queue."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

from preheat.fleet import policy, records
from preheat.fleet.events import Upload
from preheat.fleet.inflight import InFlight
from preheat.fleet.jobs import Job
from preheat.fleet.queue import Message, Queue
from preheat.fleet.records import RecordBuilder, Times
from preheat.places.aws import AwsError
from preheat.timing import warn


@dataclass(eq=False)
class Item:
    """A job in flight, and the message that has asked for it."""

    job: Job
    message: Message
    times: Times = field(default_factory=Times)
    rounds: int = 0  # in which the recording or its results were replaced meanwhile
    begun: bool = False  # whether the model has it

    @property
    def upload(self) -> Upload:
        """What has been uploaded, in the version that the job has looked at."""
        seen = self.job.source
        return replace(self.job.upload, etag=seen.etag.strip('"')) if seen else self.job.upload


class Outcomes:
    """Keeps the messages in flight, and settles them."""

    def __init__(self, queue: Queue, builder: RecordBuilder, tell: Callable[[str], None]) -> None:
        """`tell` takes the record of each job, as a line."""
        self.queue, self.in_flight, self.builder = queue, InFlight(), builder
        self.failures = 0  # jobs in a row that are to be tried again
        self.faults = 0  # those among them that are faults of ours
        self._tell = tell
        self._open: dict[Item, None] = {}
        self._lock = Lock()

    def open(self, message: Message, items: list[Item]) -> None:
        """A message has come that asks for these jobs; without any, it is done."""
        if not items:
            self._delete(message)
            return
        self.in_flight.add(message, len(items))
        with self._lock:
            self._open |= dict.fromkeys(items)

    def finish(
        self, item: Item, outcome: str, problem: str | None = None, pause: float | None = None
    ) -> None:
        """A job is done; once all jobs of its message are, so is that.

        `pause`: seconds after which the message is to be received again; None: it has done its duty.
        """
        last = self.in_flight.done(item.message, pause)
        if last and (longest := self.in_flight.pause(item.message)) is not None:
            self.queue.release([item.message], longest)
        elif last:
            self._delete(item.message)
        with self._lock:
            self._open.pop(item, None)
            if outcome == records.RETRIED:
                self.failures += 1
            else:
                self.failures = self.faults = 0
        self.record(outcome, item.message, item.upload, item.times, problem)
        if last:  # not before: when nothing is in flight, the process may end
            self.in_flight.drop(item.message)

    def retry(self, item: Item, problem: str, *, fault: bool = False) -> None:
        """Leave a message to be received again later, by whatever worker. `fault`: of ours."""
        with self._lock:
            self.faults += fault
        pause = policy.pause(item.message.attempt)
        warn(f"{item.upload.where}: {problem}; it is tried again in {pause:.0f} s")
        self.finish(item, records.RETRIED, problem, pause)

    def give_back(self) -> None:
        """Hand back all messages, as the worker ends."""
        self.queue.release(self.queue.held)
        with self._lock:
            left = list(self._open)
        for item in left:
            outcome = records.INTERRUPTED if item.begun else records.RELEASED
            self.record(outcome, item.message, item.upload, item.times)

    def record(
        self,
        outcome: str,
        message: Message,
        upload: Upload | None = None,
        times: Times | None = None,
        problem: str | None = None,
    ) -> None:
        """Write the record of a job, or of a message that asks for none."""
        with self._lock:
            self._tell(records.line(self.builder.record(outcome, message, upload, times, problem)))

    def _delete(self, message: Message) -> None:
        try:
            self.queue.delete(message)
        except AwsError as error:
            warn(f"{error}; the message will come again, and be found done")
