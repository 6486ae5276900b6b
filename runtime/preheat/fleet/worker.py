"""The worker: takes messages, reads recordings ahead of the model, delivers transcripts behind it.

One thread takes messages, some fetch and read the recordings, the main one transcribes, some deliver. What
may go wrong with a job, and what then becomes of its message, is in `attempt`.
"""

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore
from typing import TYPE_CHECKING

from preheat import memory
from preheat.fleet import life, records
from preheat.fleet.engine import Engine
from preheat.fleet.events import Dropped, MessageError, Upload, events, needless
from preheat.fleet.hand import Hand
from preheat.fleet.jobs import ChangedError, GoneError, Job, Rules
from preheat.fleet.queue import Message, Queue
from preheat.fleet.records import Scribe, Times
from preheat.options import UsageError
from preheat.places.aws import AwsError
from preheat.places.s3errors import S3Error
from preheat.storage import InputError, PassingError
from preheat.timing import reason, warn
from preheat.transcript import Transcript

if TYPE_CHECKING:
    from preheat.audio.recording import Prepared

FETCHERS = 4  # recordings that are looked up and fetched at a time
READERS = 2  # that are decoded at a time
DELIVERERS = 4  # transcripts that are delivered at a time
ARCHIVED = "InvalidObjectState"  # an error code of S3
ROUNDS = 5  # for a recording that is replaced again and again


@dataclass(eq=False)
class Item:
    """A job in hand, and the message that has asked for it."""

    job: Job
    message: Message
    times: Times = field(default_factory=Times)
    rounds: int = 0
    begun: bool = False  # whether the model has it

    @property
    def upload(self) -> Upload:
        """What has been uploaded."""
        return self.job.upload


class Worker:
    """Works off a queue."""

    def __init__(
        self, queue: Queue, engine: Engine, rules: Rules, scribe: Scribe, tell: Callable[[str], None]
    ) -> None:
        """`tell` takes the record of each job, as a line."""
        self.queue, self.hand = queue, Hand()
        self._engine, self._rules, self._scribe, self._tell = engine, rules, scribe, tell
        self.failures = 0  # jobs in a row that are to be tried again
        self.faults = 0  # those among them that are faults of ours
        self._open: dict[Item, None] = {}
        self._lock = Lock()
        self._fetchers, self._deliverers = ThreadPoolExecutor(FETCHERS), ThreadPoolExecutor(DELIVERERS)
        self._reading = Semaphore(READERS)
        self._ready: SimpleQueue[tuple[Item, list[Prepared]]] = SimpleQueue()

    def take(self, message: Message) -> None:
        """Begin the jobs that a message asks for."""
        try:
            found = events(message.body)
        except MessageError as error:
            warn(f"message {message.id} {error}")
            self._record(records.FAILED, message, problem=f"the message {error}")
            found = []
        jobs = []
        for each in found:
            dropped = each if isinstance(each, Dropped) else needless(each, self._rules.output)
            if dropped:
                upload = each if isinstance(each, Upload) else None
                self._record(records.DROPPED, message, upload, problem=f"{dropped.what}: {dropped.why}")
            elif isinstance(each, Upload):
                jobs.append(Item(Job(each, self._rules), message))
        if not jobs:
            self._delete(message)
            return
        self.hand.add(message, len(jobs))
        for item in jobs:
            with self._lock:
                self._open[item] = None
            self._begin(item)

    def work(self, seconds: float) -> None:
        """Transcribe the next recording that is ready, if one is within so many seconds."""
        try:
            item, prepared = self._ready.get(timeout=seconds)
        except Empty:
            return
        item.begun = True
        self.attempt(item, partial(self._transcribe, prepared=prepared))

    def give_back(self) -> None:
        """Hand back all messages, as the worker ends."""
        self.queue.release(self.queue.held)
        with self._lock:
            left = list(self._open)
        for item in left:
            outcome = records.INTERRUPTED if item.begun else records.RELEASED
            self._record(outcome, item.message, item.upload, item.times)

    def attempt(self, item: Item, step: Callable[[Item], None]) -> None:
        """Do a step of a job; what it raises decides what becomes of the message."""
        try:
            step(item)
        except GoneError:
            self._finish(item, records.DROPPED, "the recording has been deleted")
        except ChangedError:
            self._begin_anew(item)
        except S3Error as error:
            if error.code == ARCHIVED:
                self.attempt(item, partial(self._refuse, problem=str(error)))
            else:
                self._retry(item, str(error))
        except (OSError, PassingError) as error:
            self._retry(item, reason(error))
        except (InputError, UsageError) as error:
            self.attempt(item, partial(self._refuse, problem=str(error)))
        except Exception as error:
            if memory.shortage(error) is None:
                with self._lock:
                    self.faults += 1
                warn(f"{item.upload.where}: a fault of preheat, not yours; please report it with these lines")
                traceback.print_exc()
            self._retry(item, reason(error))

    def _begin(self, item: Item) -> None:
        self.hand.announce(item.upload.size)
        self._fetchers.submit(self.attempt, item, self._prepare)

    def _begin_anew(self, item: Item) -> None:
        """Do a job again whose recording, or whose results, have been replaced meanwhile."""
        item.rounds += 1
        item.begun, item.times = False, Times()
        if item.rounds == ROUNDS:
            self._retry(item, "the recording is being replaced again and again")
            return
        self._record(records.SUPERSEDED, item.message, item.upload)
        self._begin(item)

    def _prepare(self, item: Item) -> None:
        """Fetch and read a recording, unless its transcript is there."""
        try:
            prepared = self._read(item)
        finally:
            self.hand.announce(-item.upload.size)
        if prepared is None:
            self._finish(item, records.EXISTS)
            return
        self._ready.put((item, prepared))

    def _read(self, item: Item) -> "list[Prepared] | None":
        job, times = item.job, item.times
        if job.look():
            if job.remove_error() and not job.current():
                raise ChangedError
            return None
        assert job.source  # noqa: S101  for mypy
        size = job.source.size
        if size > shutil.disk_usage(tempfile.gettempdir()).free + self.hand.fetched:
            raise InputError(
                f"is too large for the worker's disk ({size / 1e9:.0f} GB); give it a larger one"
            )
        self.hand.reserve(size)
        try:
            start = time.monotonic()
            with job.fetch() as file:
                times.fetch = time.monotonic() - start
                with self._reading:
                    self.hand.listen()
                    start = time.monotonic()
                    prepared = self._engine.read(file, job.choices.options)
                    times.read = time.monotonic() - start
                    times.audio = sum(each.seconds for each in prepared)
                    self.hand.hear(times.audio)
        finally:
            self.hand.free(size)
        return prepared

    def _transcribe(self, item: Item, prepared: "list[Prepared]") -> None:
        start = time.monotonic()
        try:
            transcript = self._engine.transcribe(prepared, item.job.choices.options)
        finally:
            self.hand.hear(-(item.times.audio or 0.0))
        item.times.decode = time.monotonic() - start
        self._deliverers.submit(self.attempt, item, partial(self._deliver, transcript=transcript))

    def _deliver(self, item: Item, transcript: Transcript) -> None:
        job, start = item.job, time.monotonic()
        outcome = records.DONE if transcript.complete else records.INCOMPLETE
        try:
            job.deliver(job.texts(transcript), transcript.complete)
        except ChangedError:
            outcome = records.EXISTS  # if they are the right ones
        item.times.upload = time.monotonic() - start
        job.remove_error()
        if not job.settled():
            raise ChangedError
        self._finish(item, outcome, transcript.incomplete)

    def _refuse(self, item: Item, problem: str) -> None:
        """Say beside the results why there is no transcript."""
        where = {"fleet": self._scribe.fleet, "instance": self._scribe.host.instance}
        item.job.put_error(problem, where)
        if not item.job.current():
            raise ChangedError
        self._finish(item, records.FAILED, problem)

    def _retry(self, item: Item, problem: str) -> None:
        """Leave a message to be received again later, by whatever worker."""
        pause = life.pause(item.message.attempt)
        warn(f"{item.upload.where}: {problem}; it is tried again in {pause:.0f} s")
        self._finish(item, records.RETRIED, problem, pause)

    def _finish(
        self, item: Item, outcome: str, problem: str | None = None, pause: float | None = None
    ) -> None:
        """The job is done; once all jobs of its message are, so is that."""
        last = self.hand.done(item.message, pause)
        if last and (wait := self.hand.pause(item.message)) is not None:
            self.queue.release([item.message], wait)
        elif last:
            self._delete(item.message)
        with self._lock:
            self._open.pop(item, None)
            if outcome == records.RETRIED:
                self.failures += 1
            else:
                self.failures = self.faults = 0
        self._record(outcome, item.message, item.upload, item.times, problem)
        if last:  # not before: when the hand is empty, the process may end
            self.hand.drop(item.message)

    def _delete(self, message: Message) -> None:
        try:
            self.queue.delete(message)
        except AwsError as error:
            warn(f"{error}; the message will come again, and be found done")

    def _record(
        self,
        outcome: str,
        message: Message,
        upload: Upload | None = None,
        times: Times | None = None,
        problem: str | None = None,
    ) -> None:
        with self._lock:
            self._tell(records.line(self._scribe.record(outcome, message, upload, times, problem)))
