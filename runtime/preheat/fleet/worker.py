"""The worker: reads recordings ahead of the model, and delivers transcripts behind it.

Some threads fetch and read, the main one transcribes, some deliver. What may go wrong with a job, and what
then becomes of its message, is in `attempt`.
"""

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from threading import Semaphore
from typing import TYPE_CHECKING

from preheat import memory
from preheat.fleet import records
from preheat.fleet.engine import Engine
from preheat.fleet.events import Dropped, MessageError, Upload, events, needless
from preheat.fleet.jobs import ChangedError, GoneError, Job, Rules
from preheat.fleet.outcomes import Item, Outcomes
from preheat.fleet.queue import Message, Queue
from preheat.fleet.records import RecordBuilder, Times
from preheat.options import UsageError
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


class Worker:
    """Does what messages ask for."""

    def __init__(
        self, queue: Queue, engine: Engine, rules: Rules, builder: RecordBuilder, tell: Callable[[str], None]
    ) -> None:
        """`tell` takes the record of each job, as a line."""
        self.outcomes = Outcomes(queue, builder, tell)
        self.queue, self.in_flight = queue, self.outcomes.in_flight
        self._engine, self._rules = engine, rules
        self._fetchers, self._deliverers = ThreadPoolExecutor(FETCHERS), ThreadPoolExecutor(DELIVERERS)
        self._reading = Semaphore(READERS)
        self._ready: SimpleQueue[tuple[Item, list[Prepared]]] = SimpleQueue()

    def take(self, message: Message) -> None:
        """Begin the jobs that a message asks for."""
        items = []
        try:
            for each in events(message.body):
                dropped = each if isinstance(each, Dropped) else needless(each, self._rules.output)
                if dropped:
                    upload, why = each if isinstance(each, Upload) else None, f"{dropped.what}: {dropped.why}"
                    self.outcomes.record(records.DROPPED, message, upload, problem=why)
                elif isinstance(each, Upload):
                    items.append(Item(Job(each, self._rules), message))
        except MessageError as error:
            warn(f"message {message.id} {error}")
            self.outcomes.record(records.FAILED, message, problem=f"the message {error}")
        self.outcomes.open(message, items)
        for item in items:
            self._begin(item)

    def work(self, seconds: float) -> None:
        """Transcribe the next recording that is ready, if one is within so many seconds."""
        try:
            item, prepared = self._ready.get(timeout=seconds)
        except Empty:
            return
        item.begun = True
        self.attempt(item, partial(self._transcribe, prepared=prepared))

    def attempt(self, item: Item, step: Callable[[Item], None]) -> None:
        """Do a step of a job; what it raises decides what becomes of the message."""
        try:
            step(item)
        except GoneError:
            self.outcomes.finish(item, records.DROPPED, "the recording has been deleted")
        except ChangedError:
            self._begin_anew(item)
        except S3Error as error:
            if error.code == ARCHIVED:
                self.attempt(item, partial(self._refuse, problem=str(error)))
            else:
                self.outcomes.retry(item, str(error))
        except (OSError, PassingError) as error:
            self.outcomes.retry(item, reason(error))
        except (InputError, UsageError) as error:
            self.attempt(item, partial(self._refuse, problem=str(error)))
        except Exception as error:
            if short := memory.shortage(error):
                self.outcomes.retry(item, short)
                return
            warn(f"{item.upload.where}: a bug in the worker; please report it with the lines below")
            traceback.print_exc()
            self.outcomes.retry(item, reason(error), fault=True)

    def _begin(self, item: Item) -> None:
        self.in_flight.announce(item.upload.size)
        self._fetchers.submit(self.attempt, item, self._prepare)

    def _begin_anew(self, item: Item) -> None:
        """Do a job again whose recording, or whose results, have been replaced meanwhile."""
        item.rounds += 1
        if item.rounds == ROUNDS:
            self.outcomes.retry(item, "the recording is being replaced again and again")
            return
        self.outcomes.record(records.SUPERSEDED, item.message, item.upload, item.times)
        item.begun, item.times = False, Times()
        self._begin(item)

    def _prepare(self, item: Item) -> None:
        """Fetch and read a recording, unless its transcript is there."""
        try:
            prepared = self._read(item)
        finally:
            self.in_flight.announce(-item.upload.size)
        if prepared is None:
            self.outcomes.finish(item, records.EXISTS)
        else:
            self._ready.put((item, prepared))

    def _read(self, item: Item) -> "list[Prepared] | None":
        job, times = item.job, item.times
        if job.look():
            job.remove_error()
            return None
        size = job.source.size if job.source else 0
        if size > shutil.disk_usage(tempfile.gettempdir()).free + self.in_flight.fetched:
            raise InputError(
                f"is too large for the worker's disk ({size / 1e9:.0f} GB); give it a larger one"
            )
        self.in_flight.reserve(size)
        try:
            start = time.monotonic()
            with job.fetch() as file:
                times.fetch = time.monotonic() - start
                with self._reading:
                    self.in_flight.wait_for_audio_room()
                    start = time.monotonic()
                    prepared = self._engine.read(file, job.choices.options)
                    times.read = time.monotonic() - start
                    times.audio = sum(each.seconds for each in prepared)
                    self.in_flight.add_audio(times.audio)
        finally:
            self.in_flight.free(size)
        return prepared

    def _transcribe(self, item: Item, prepared: "list[Prepared]") -> None:
        start = time.monotonic()
        try:
            transcript = self._engine.transcribe(prepared, item.job.choices.options, self.in_flight.note_step)
        finally:
            self.in_flight.add_audio(-(item.times.audio or 0.0))
        item.times.decode = time.monotonic() - start
        self._deliverers.submit(self.attempt, item, partial(self._deliver, transcript=transcript))

    def _deliver(self, item: Item, transcript: Transcript) -> None:
        """Write the results, and see that they are still right after that."""
        job, start = item.job, time.monotonic()
        outcome = records.DONE if transcript.complete else records.INCOMPLETE
        try:
            job.deliver(job.texts(transcript), transcript.complete)
        except ChangedError:
            outcome = records.EXISTS  # if they are the right ones
        item.times.upload = time.monotonic() - start
        if not job.settled():
            raise ChangedError
        job.remove_error()
        self.outcomes.finish(item, outcome, transcript.incomplete)

    def _refuse(self, item: Item, problem: str) -> None:
        """Say beside the results why there is no transcript."""
        builder = self.outcomes.builder
        item.job.put_error(problem, {"fleet": builder.fleet, "instance": builder.host.instance})
        if not item.job.current():
            raise ChangedError
        self.outcomes.finish(item, records.FAILED, problem)
