"""What a worker does where the machine or this program fails; the model is a stand-in that fails as asked."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Timer
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from preheat.delivery import Recipe
from preheat.fleet.choices import Choices
from preheat.fleet.events import Upload
from preheat.fleet.intake import Intake
from preheat.fleet.jobs import Job, Rules
from preheat.fleet.lifecycle import BROKEN, Lifecycle
from preheat.fleet.metadata import Host, Metadata
from preheat.fleet.notice import Notice
from preheat.fleet.outcomes import Item
from preheat.fleet.queue import Queue
from preheat.fleet.records import RecordBuilder
from preheat.fleet.worker import Worker
from preheat.options import Options
from preheat.places.s3 import Location
from preheat.storage import PassingError
from preheat.subtitles import Lines
from preheat.transcript import Segment, Transcript
from tests.fleet.messages import bridge
from tests.fleet.metadata_server import MetadataServer
from tests.runtime.fleet.conftest import Waiting
from tests.runtime.places.conftest import NAME, Bucket


class Heard:
    """A recording that has been read."""

    seconds = 1.0


@dataclass
class Engine:
    """The model; raises `errors`, one for each recording, until none is left."""

    errors: list[Exception] = field(default_factory=list)

    def check(self, options: Options) -> None:
        """Any options will do."""

    def read(self, file: BinaryIO, options: Options) -> list[Heard]:
        """Hear something."""
        del options
        assert file.read()
        return [Heard()]

    def transcribe(self, prepared: list[Heard], options: Options, progress: Callable[[], None]) -> Transcript:
        """Say something."""
        del prepared, options
        progress()
        if self.errors:
            raise self.errors.pop(0)
        return Transcript("en", [Segment(0, 0.0, 1.0, "Hello", [], 0.0, 0.0, 1.0, 0.0)])


@dataclass
class Place:
    """A worker, and what it tells."""

    worker: Worker
    notice: Notice
    waiting: Waiting
    bucket: Bucket
    records: list[dict[str, Any]]
    engine: Engine
    rules: Rules

    def upload(self, key: str, **settings: str) -> None:
        """Write an object, and say so in the queue."""
        self.bucket.client.put_object(Bucket=NAME, Key=key, Body=b"sound", **settings)
        said = bridge(key)
        self.waiting.send(json.dumps(said | {"detail": said["detail"] | {"bucket": {"name": NAME}}}))

    def run(self) -> int:
        """Work until the end; the exit code. Without the records that are wanted, it ends after a minute."""
        timer = Timer(60, self.notice.leave, [3600])
        timer.start()
        try:
            return Lifecycle(self.worker, self.notice, None, None, 300).run(lambda: None, self.alive)
        finally:
            timer.cancel()

    def tell(self, line: str) -> None:
        """Take a record; when there are as many as the test waits for, end the worker."""
        self.records.append(json.loads(line))
        if len(self.records) == self.wanted:
            self.notice.leave(3600)  # this process is the tests, and must not be ended

    wanted = 0

    def alive(self) -> None:
        """Count."""
        self.signs += 1

    signs = 0


@pytest.fixture
def place(bucket: Bucket, waiting: Waiting, metadata: MetadataServer, tmp_path: Path) -> Place:
    """A worker with a queue of its own."""
    del metadata
    (tmp_path / "model/echo").mkdir(parents=True)
    (tmp_path / "model/echo/config.json").touch()
    recipe = Recipe(Options(), Lines(), False, tmp_path, "echo")
    found = Place.__new__(Place)
    found.engine = Engine()
    engine: Any = found.engine
    rules = found.rules = Rules(Location(NAME, "out/"), Choices(formats=("txt",)), recipe, engine.check)
    queue = Queue(waiting.client, waiting.url)
    found.worker = Worker(queue, engine, rules, RecordBuilder("calls", Host(), "echo"), found.tell)
    found.notice, found.waiting, found.bucket = Notice(Metadata(), lambda _: None), waiting, bucket
    found.records = []
    return found


def test_it_finishes_what_it_has(place: Place) -> None:
    """A process that is to end has some time for it."""
    for key in ("a", "b"):
        place.upload(key)
    place.wanted = 1
    assert place.run() == 0
    done = {each["recording"] for each in place.records}
    assert {each["outcome"] for each in place.records} == {"done"}
    assert place.waiting.counts == (2 - len(done), 0)


def test_faults_in_a_row_end_the_worker(place: Place) -> None:
    """It is broken then, as with a GPU that has failed; the messages are left for another one."""
    place.engine.errors = [RuntimeError("CUDA error: the launch failed") for _ in range(9)]
    for key in "abcde":
        place.upload(key)
    assert place.run() == BROKEN
    outcomes = [each["outcome"] for each in place.records]
    assert outcomes.count("retried") == 3 and set(outcomes) <= {"retried", "released", "interrupted"}
    assert sum(place.waiting.counts) == 5 and list(place.bucket.contents("out/")) == []


def test_only_faults_in_a_row_count(place: Place) -> None:
    """Not what may pass, nor faults with a transcript between them."""
    outcomes, items = place.worker.outcomes, []
    for key in "abc":
        place.upload(key)
    for message in place.worker.queue.receive(10, 0):
        items.append(Item(Job(Upload(Location(NAME, "a")), place.rules), message))
        outcomes.open(message, items[-1:])
    outcomes.retry(items[0], "a fault", fault=True)
    outcomes.retry(items[1], "a full disk")
    assert (outcomes.failures, outcomes.faults) == (2, 1)
    outcomes.finish(items[2], "done")
    assert (outcomes.failures, outcomes.faults) == (0, 0) and place.worker.in_flight.empty


def test_a_fault_between_others_is_left_to_another_try(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.engine.errors = [RuntimeError("a fault")]
    for key in "abc":
        place.upload(key)
    place.wanted = 3
    assert place.run() == 0
    assert sorted(each["outcome"] for each in place.records) == ["done", "done", "retried"]
    assert place.waiting.counts == (0, 1)
    said = capsys.readouterr().err
    assert "a bug in the worker" in said and "Traceback" in said and "again in 20 s" in said


@pytest.mark.parametrize(
    "error", [PassingError("no GPU memory"), MemoryError(), OSError(28, "No space left")]
)
def test_what_may_pass(error: Exception, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.engine.errors = [error]
    place.upload("a")
    place.wanted = 1
    assert place.run() == 0
    assert [each["outcome"] for each in place.records] == ["retried"]
    assert place.waiting.counts == (0, 1) and "bug in the worker" not in capsys.readouterr().err


@pytest.mark.parametrize(("fetched", "outcome"), [(1, "failed"), (2, "done")])
def test_a_recording_larger_than_the_disk(
    fetched: int, outcome: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only than what is free until others have been read."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3))
    place.worker.in_flight.reserve(fetched)
    place.upload("a")
    place.wanted = 1
    assert place.run() == 0
    assert [each["outcome"] for each in place.records] == [outcome]
    assert place.waiting.counts == (0, 0)
    refused = "too large for the worker's disk" in place.bucket.contents("out/").get("a.error.json", "")
    assert refused == (outcome == "failed")


def test_an_archived_recording(place: Place) -> None:
    """It would not come back by itself, however often it is tried."""
    place.upload("a", StorageClass="GLACIER")
    place.wanted = 1
    assert place.run() == 0
    assert [each["outcome"] for each in place.records] == ["failed"]
    assert place.waiting.counts == (0, 0)
    assert "archived" in place.bucket.contents("out/")["a.error.json"]


def test_a_message_comes_again_for_one_of_its_recordings(place: Place) -> None:
    """Whichever of them ends last."""
    outcomes = place.worker.outcomes
    for failing in (0, 1):
        place.upload("a")
        (message,) = place.worker.queue.receive(1, 0)
        items = [Item(Job(Upload(Location(NAME, key)), place.rules), message) for key in "ab"]
        outcomes.open(message, items)
        for number, item in enumerate(items):
            if number == failing:
                outcomes.retry(item, "S3 does not answer")
            else:
                outcomes.finish(item, "done")
            assert place.worker.in_flight.empty == (number == 1)
        assert place.waiting.counts == (0, failing + 1), "hidden until the next try"


def test_replaced_again_and_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time while it is transcribed."""
    versions = iter(range(99))
    transcribe = place.engine.transcribe

    def replacing(prepared: list[Heard], options: Options, progress: Callable[[], None]) -> Transcript:
        place.bucket.put("a", f"sound {next(versions)}".encode())
        return transcribe(prepared, options, progress)

    monkeypatch.setattr(place.engine, "transcribe", replacing)
    place.upload("a")
    place.wanted = 5
    assert place.run() == 0
    assert [each["outcome"] for each in place.records] == ["superseded"] * 4 + ["retried"]
    assert place.waiting.counts == (0, 1)


def test_an_error_while_it_takes_messages_ends_the_worker(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would wait for ever, and its instance with it."""

    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(place.worker.queue, "receive", broken)
    assert place.run() == BROKEN
    said = capsys.readouterr().err
    assert "no more messages are taken, by a bug in the worker" in said and "Traceback" in said


def test_nothing_is_taken_after_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that takes messages ends with the worker, whatever has ended that."""
    run, ended = Intake.run, Event()

    def noting(intake: Intake, ready: Callable[[], None], end: Callable[[], None]) -> None:
        run(intake, ready, end)
        ended.set()

    monkeypatch.setattr(Intake, "run", noting)
    place.engine.errors = [RuntimeError("a fault") for _ in range(9)]
    for key in "abc":
        place.upload(key)
    assert place.run() == BROKEN
    assert ended.wait(60)


def test_it_shows_signs_of_life_while_there_is_progress_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a model hangs there are none; the watchdog then ends the instance."""
    transcribe, during = place.engine.transcribe, list[int]()

    def slow(prepared: list[Heard], options: Options, progress: Callable[[], None]) -> Transcript:
        for calls in range(2):
            place.notice.wait(2.0)  # until what came before has been seen
            before = place.signs
            for _ in range(calls):
                progress()
            place.notice.wait(2.0)
            during.append(place.signs - before)
        return transcribe(prepared, options, progress)

    monkeypatch.setattr(place.engine, "transcribe", slow)
    place.upload("a")
    place.wanted = 1
    assert place.run() == 0
    assert during == [0, 1] and place.signs >= 2, "one before, too; after the last step it may have ended"
