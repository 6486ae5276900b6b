"""The worker as a process of its own, and what it does where things go wrong; AWS is moto's.

The whole fleet, and a worker that is killed, are in tests/fleet.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from preheat import timing
from preheat.fleet import command, policy
from preheat.fleet.engine import Engine
from preheat.fleet.metadata import Host
from preheat.options import Options
from tests.fleet.messages import bridge
from tests.fleet.metadata_server import MetadataServer
from tests.runtime.fleet.conftest import Waiting
from tests.runtime.homes import RUNTIME
from tests.runtime.places.conftest import NAME, Bucket
from tests.runtime.places.proxy import Proxy, Trouble


def wait(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Process:
    """The process, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.records: list[dict[str, Any]] = []
        self.said: list[str] = []
        Thread(target=self._read_records, daemon=True).start()
        Thread(target=self._read_errors, daemon=True).start()

    def ready(self) -> None:
        """Wait until it takes messages."""
        wait(lambda: "worker: ready\n" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    def outcomes(self) -> dict[str, str]:
        """The last outcome of each recording, by key."""
        return {each["recording"].removeprefix(f"s3://{NAME}/"): each["outcome"] for each in self.records}

    def _read_records(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.records.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)


@dataclass
class Place:
    """Where a worker works."""

    home: Path
    bucket: Bucket
    waiting: Waiting
    proxy: Proxy
    metadata: MetadataServer
    folder: Path  # for what it tells the watchdog

    @contextmanager
    def worker(self, **settings: str) -> Iterator[Process]:
        """A worker, which is killed at the end of the block."""
        given = {
            "PREHEAT_FLEET": "calls",
            "PREHEAT_QUEUE_URL": self.waiting.url,
            "PREHEAT_OUTPUT": f"s3://{NAME}/out/",
            "RUNTIME_DIRECTORY": str(self.folder),
        }
        command = [sys.executable, str(RUNTIME / "worker.py"), "--home", str(self.home), "--device", "cpu"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=os.environ | given | settings, **pipes) as process:
            try:
                yield Process(process)
            finally:
                process.kill()

    def upload(self, key: str, content: bytes, **metadata: str) -> None:
        """Write an object, and say so in the queue."""
        self.bucket.client.put_object(Bucket=NAME, Key=key, Body=content, Metadata=metadata)
        said = bridge(key)
        self.waiting.send(json.dumps(said | {"detail": said["detail"] | {"bucket": {"name": NAME}}}))


@pytest.fixture
def place(request: pytest.FixtureRequest, baked: Path, tmp_path: Path) -> Place:
    """A home, an empty bucket, an empty queue, an instance."""
    bucket, waiting, proxy, metadata = map(
        request.getfixturevalue, ("bucket", "waiting", "proxy", "metadata")
    )
    return Place(baked, bucket, waiting, proxy, metadata, tmp_path)


@pytest.fixture
def short(samples: Path) -> bytes:
    """A recording of 8 s."""
    return (samples / "short.flac").read_bytes()


def test_recordings_of_all_kinds(place: Place, short: bytes) -> None:
    """And with nothing to do any more, the process ends when systemd says so."""
    place.upload("in/ü +%.flac", short)
    place.upload("cut.flac", short[:80_000])
    place.upload("text.wav", b"no sound")
    place.upload("empty.wav", b"")
    place.upload("klingon.flac", short, language="Klingon")
    place.upload("txt.flac", short, formats="txt", language="English")
    place.waiting.send("{}")
    with place.worker() as process:
        process.ready()
        ready = (place.folder / "ready").stat().st_mtime_ns
        wait(lambda: place.waiting.counts == (0, 0) and len(process.records) == 7)
        wait(lambda: (place.folder / "ready").stat().st_mtime_ns > ready)
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(30) == 0
    (bad,) = [each for each in process.records if "recording" not in each]
    assert bad["outcome"] == "failed" and "is no event of S3's" in bad["problem"]
    process.records.remove(bad)
    assert process.outcomes() == {
        "in/ü +%.flac": "done",
        "cut.flac": "incomplete",
        "text.wav": "failed",
        "empty.wav": "failed",
        "klingon.flac": "failed",
        "txt.flac": "done",
    }
    assert sum(each["first_job"] for each in process.records) == 1
    tag = place.bucket.get("cut.flac")["ETag"].strip('"')
    assert [each["etag"] for each in process.records if each["outcome"] == "incomplete"] == [tag]
    assert {each["instance"] for each in process.records} == {"i-1"}
    keys = set(place.bucket.contents("out/"))
    whole = {f"{key}.{name}" for key in ("in/ü +%.flac", "cut.flac") for name in ("txt", "srt", "vtt", "tsv")}
    made = {f"{key}.json" for key in ("in/ü +%.flac", "cut.flac", "txt.flac")} | {"txt.flac.txt"}
    errors = {f"{key}.error.json" for key in ("text.wav", "empty.wav", "klingon.flac")}
    assert keys == whole | made | errors
    assert "zero" in place.bucket.contents("out/")["in/ü +%.flac.txt"]
    assert json.loads(place.bucket.contents("out/")["cut.flac.json"])["complete"] is False
    problem = json.loads(place.bucket.contents("out/")["klingon.flac.error.json"])
    assert "no language 'Klingon'" in problem["problem"] and problem["fleet"] == "calls"


def test_a_launch_after_the_start_of_the_kernel_says_nothing_of_the_boot() -> None:
    """As where the clock is not set yet."""
    kernel = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for seconds, booted in ((-20.0, 20), (20.0, None)):
        launched = datetime.fromtimestamp(kernel + seconds, UTC).isoformat()
        found = command.startup(Host(launched=launched))
        assert (None if found.booted is None else round(found.booted)) == booted
        assert found.start == pytest.approx(time.time() - kernel - seconds, abs=2)
        assert found.ready == pytest.approx(timing.now(), abs=1)


def test_the_model_tells_of_its_progress(baked: Path, samples: Path) -> None:
    steps = list[None]()
    engine = Engine(baked, "cpu", timing.Log(quiet=True))
    with (samples / "short.flac").open("rb", buffering=0) as file:
        prepared = engine.read(file, Options())
    engine.transcribe(prepared, Options(), lambda: steps.append(None))
    assert steps


def test_what_fails_for_the_moment_stays_in_the_queue(place: Place, short: bytes) -> None:
    """Here S3 refuses one recording; the others are done."""
    denied = Trouble(status=403, body=b"<Error><Code>AccessDenied</Code><Message>No</Message></Error>")
    place.proxy.trouble = lambda _, path, __: denied if path.endswith("/secret.flac") else None
    for key in ("secret.flac", "open.flac"):
        place.upload(key, short)
    with place.worker() as process:
        wait(lambda: len(process.records) == 2)
        assert process.outcomes() == {"secret.flac": "retried", "open.flac": "done"}
        assert place.waiting.counts == (0, 1)
        (attempt,) = [each["attempt"] for each in process.records if each["outcome"] == "retried"]
        said = "".join(process.said)
        assert "access is denied" in said and f"again in {policy.pause(attempt):.0f} s" in said
    assert [key for key in place.bucket.contents("out/") if key.startswith("secret")] == []


def test_the_end_is_announced_while_it_works(place: Place, short: bytes) -> None:
    """What is not done in time is handed back at once."""
    place.proxy.trouble = lambda method, _, __: Trouble(wait=60) if method == "PUT" else None
    place.upload("a.flac", short)
    with place.worker() as process:
        wait(lambda: any(method == "PUT" for method, *_ in place.proxy.requests))
        place.metadata.interrupt(16)
        announced = time.monotonic()
        assert process.process.wait(60) == 0
        assert time.monotonic() - announced < 14, "before the instance is gone"
    wait(lambda: place.waiting.counts == (1, 0))  # the worker's own last poll may have got it, for 30 s
    assert [each["outcome"] for each in process.records] == ["interrupted"]
    assert process.records[0]["Interrupted"] == 1


def test_a_message_that_may_kill_workers_is_worked_on_alone(place: Place, short: bytes) -> None:
    """One that has come often and was never done; those that came with it would come as often."""
    place.upload("suspect.flac", short)
    for _ in range(2):
        (found,) = place.waiting.client.receive_message(QueueUrl=place.waiting.url)["Messages"]
        place.waiting.client.change_message_visibility(
            QueueUrl=place.waiting.url, ReceiptHandle=found["ReceiptHandle"], VisibilityTimeout=0
        )
    for number in range(3):
        place.upload(f"{number}.flac", short)
    del place.proxy.requests[:]
    with place.worker() as process:
        wait(lambda: len(process.records) == 4)
    assert process.records[0]["recording"].endswith("suspect.flac") and process.records[0]["attempt"] == 3
    assert set(process.outcomes().values()) == {"done"}
    targets = [headers.get("x-amz-target") for _, _, headers in place.proxy.requests]
    before = targets[: targets.index("AmazonSQS.DeleteMessage")]
    assert before.count("AmazonSQS.ReceiveMessage") == 1


def no_group(_: str, __: str, headers: dict[str, str]) -> Trouble | None:
    """Auto Scaling's answer for an instance that is in no group."""
    body = b"<E><Error><Code>ValidationError</Code><Message>No group</Message></Error></E>"
    return Trouble(status=400, body=body) if "/autoscaling/" in headers.get("authorization", "") else None


def test_without_work_the_instance_ends(place: Place) -> None:
    """Refused, as it is for an instance that is in no group: it goes on, and asks again after as long."""
    place.proxy.trouble = no_group
    with place.worker(PREHEAT_GROUP="group", PREHEAT_IDLE_SECONDS="2") as process:
        wait(lambda: sum("TerminateInstanceInAutoScalingGroup" in line for line in process.said) == 2)
        assert process.process.poll() is None
        place.metadata.answers["autoscaling/target-lifecycle-state"] = "Terminated"
        assert process.process.wait(30) == 0


def test_an_instance_whose_metadata_do_not_answer_at_first(place: Place) -> None:
    """It has to know its own id before it works, or it could not end itself."""
    place.metadata.down, place.proxy.trouble = True, no_group
    with place.worker(PREHEAT_GROUP="group", PREHEAT_IDLE_SECONDS="1") as process:
        wait(lambda: process.process.poll() is not None or place.metadata.refused >= 3)
        assert process.process.poll() is None
        place.metadata.down = False
        process.ready()
        wait(lambda: any("TerminateInstanceInAutoScalingGroup" in line for line in process.said))
    assert not any("taken for no instance" in line for line in process.said)


def test_an_instance_without_metadata(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Systemd starts the worker again, which it does not after the codes 2 and 3."""
    monkeypatch.setattr(command, "METADATA_SECONDS", 0.1)
    monkeypatch.setattr(timing, "program", "")  # restored after the test
    given = {"FLEET": "calls", "QUEUE_URL": place.waiting.url, "OUTPUT": f"s3://{NAME}/", "GROUP": "group"}
    for name, value in given.items():
        monkeypatch.setenv(f"PREHEAT_{name}", value)
    place.metadata.down = True
    assert command.worker(["--home", str(place.home)]) == command.NO_METADATA == 5
    assert "the worker is to be started again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"PREHEAT_QUEUE_URL": ""}, 2, "worker: PREHEAT_QUEUE_URL is not set"),
        ({"PREHEAT_TASK": "sing"}, 2, "worker: PREHEAT_LANGUAGE, _TASK, _FORMATS or _PROMPT: task is sing"),
    ],
)
def test_wrong_settings(settings: dict[str, str], code: int, said: str, place: Place) -> None:
    with place.worker(**settings) as process:
        assert process.process.wait(60) == code
        wait(lambda: any(line.startswith(said) for line in process.said))
    assert not (place.folder / "ready").exists()


def test_no_model(place: Place) -> None:
    place.home = place.folder
    with place.worker() as process:
        assert process.process.wait(60) == 3
        wait(lambda: any(line.startswith("worker: no model in ") for line in process.said))
