"""A bad day at AWS, or on the instance: nothing is lost, and what can go on does."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.gateway import Call
from tests.fleet.instance import Instance, wait
from tests.runtime.places.proxy import Trouble

EXPIRED = Trouble(
    status=400, body=b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
)


@pytest.fixture
def calm(worker: Instance) -> Iterator[Instance]:
    """The instance of all tests here; whatever a test has done to its calls ends with the test."""
    yield worker
    worker.gateway.before = lambda _: None


def test_s3_throttles_and_breaks(fleet: Fleet, calm: Instance, samples: Path) -> None:
    """Each request is refused once, and slow; objects are cut off once."""
    seen: Counter[str] = Counter()

    def trouble(call: Call) -> Trouble | None:
        if call.service != "s3":
            return None
        each = f"{call.action} {call.key}"
        seen[each] += 1
        if seen[each] == 1:
            return Trouble(status=503, wait=0.1)
        return Trouble(keep=0.5) if seen[each] == 2 and call.action == "GET" else Trouble(wait=0.1)

    calm.gateway.before = trouble
    key = "recordings/throttled.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes())
    assert fleet.transcript(key)["txt"].split() == (samples / "short.txt").read_text().split()
    fleet.drained()
    assert fleet.writes(f"{key}.json") == 1
    assert seen[f"GET {fleet.stack.bucket}/{key}"] >= 3


def test_s3_refuses_for_a_while(fleet: Fleet, calm: Instance, samples: Path) -> None:
    """The message is left in the queue, for later, and no error file says that the recording is to blame."""
    calm.gateway.before = lambda call: EXPIRED if call.service == "s3" else None
    key = "recordings/refused.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes())
    assert calm.job(key)["outcome"] == "retried"
    assert fleet.waiting() == (0, 1), "hidden until the next try"
    assert fleet.results(key) == {}
    calm.gateway.before = lambda _: None
    fleet.expire()
    fleet.transcript(key)
    fleet.drained()


def test_the_queue_is_gone_for_a_while(fleet: Fleet, calm: Instance, samples: Path) -> None:
    """What is in flight is done; its message, which cannot be deleted, comes again and is found done."""
    hold, key = Event(), "recordings/queue.flac"

    def before(call: Call) -> Trouble | None:
        if call.service == "sqs":
            return Trouble(status=503, body=b"{}") if hold.is_set() else None
        if call.name == "s3:GET" and call.key.endswith(key):
            hold.set()
        return None

    calm.gateway.before = before
    fleet.upload(key, (samples / "short.flac").read_bytes())
    fleet.transcript(key)
    assert calm.job(key)["outcome"] == "done"
    hold.clear()
    fleet.expire()
    fleet.drained()
    assert fleet.writes(f"{key}.json") == 1
    assert calm.runs


def test_cloudwatch_is_gone(fleet: Fleet, calm: Instance, samples: Path) -> None:
    """Work goes on; the records are in the journal, and reach CloudWatch later."""
    calm.gateway.before = lambda call: Trouble(status=503, body=b"{}") if call.service == "logs" else None
    key = "recordings/unlogged.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes())
    fleet.transcript(key)
    record = calm.job(key)
    fleet.drained()
    wait("an attempt", lambda: calm.gateway.named("logs:PutLogEvents"))
    assert record not in fleet.logged(calm.identity)
    calm.gateway.before = lambda _: None
    wait("the record in CloudWatch", lambda: record in fleet.logged(calm.identity))


def test_no_metadata(fleet: Fleet, calm: Instance, samples: Path) -> None:
    """The metadata service fails for a while: the worker says so, and goes on."""
    calm.metadata.down = True
    wait("a word of it", lambda: any("no notice" in line for line in calm.said))
    calm.metadata.down = False
    fleet.upload("recordings/no-metadata.flac", (samples / "short.flac").read_bytes())
    fleet.transcript("recordings/no-metadata.flac")
    fleet.drained()


EAGER = """
from botocore.credentials import RefreshableCredentials
RefreshableCredentials._advisory_refresh_timeout = 7 * 3600  # in place of 15 minutes
"""


def test_credentials_are_renewed(alone: Fleet, samples: Path, tmp_path: Path) -> None:
    """EC2 has new ones long before the old ones end; botocore is made to ask for them sooner."""
    (tmp_path / "sitecustomize.py").write_text(EAGER)
    instance = alone.launch(PYTHONPATH=str(tmp_path)).ready()
    instance.metadata.grant("second", seconds=6 * 3600)
    wait("the new ones", lambda: instance.gateway.named("sqs:ReceiveMessage")[-1].access_key == "second")
    instance.gateway.before = lambda call: EXPIRED if call.access_key == "first" else None
    alone.upload("recordings/a.flac", (samples / "short.flac").read_bytes())
    alone.transcript("recordings/a.flac")
    alone.drained()
    wait("its record in CloudWatch", lambda: alone.logged(instance.identity))


def test_a_recording_that_kills_workers(alone: Fleet, samples: Path) -> None:
    """It gets to the dead letters, and the others are transcribed all the same."""
    poison, others = "recordings/poison.flac", [f"recordings/{number}.flac" for number in range(3)]
    alone.upload(poison, (samples / "short.flac").read_bytes())
    for _ in range(3):  # as by workers that were killed
        alone.sqs.receive_message(QueueUrl=alone.stack.queue_url, VisibilityTimeout=120)
        alone.expire()
    for key in others:
        alone.upload(key, (samples / "short.flac").read_bytes())

    def strike(instance: Instance) -> None:
        def before(call: Call) -> Trouble | None:
            if call.name != "s3:GET" or not call.key.endswith(poison):
                return None
            instance.process.kill()
            return Trouble(status=503)

        instance.gateway.before = before

    for _ in range(2):
        victim = alone.launch()
        strike(victim)
        alone.wait("its death", lambda victim=victim: not victim.runs)  # type: ignore[misc]
        alone.expire()
    last = alone.launch()
    strike(last)
    alone.drained()
    assert last.runs and alone.dead() == 1
    for key in others:
        alone.transcript(key)


def test_the_disk_is_full(alone: Fleet, samples: Path, tmp_path: Path) -> None:
    """When it fills while a recording is fetched, that is tried again. One that never fits is refused."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", tmp_path], check=True)
    try:
        small = alone.launch(TMPDIR=str(tmp_path)).ready()

        def fill(call: Call) -> None:
            if call.name == "s3:GET":
                (tmp_path / "others").write_bytes(bytes(450 << 10))

        small.gateway.before = fill
        alone.upload("recordings/later.flac", (samples / "short.flac").read_bytes())
        assert small.job("recordings/later.flac")["outcome"] == "retried"
        assert alone.results("recordings/later.flac") == {}
        small.gateway.before = lambda _: None
        (tmp_path / "others").unlink()
        alone.expire()
        alone.transcript("recordings/later.flac")
        alone.upload("recordings/large.flac", (samples / "long.flac").read_bytes())
        assert "too large" in alone.error("recordings/large.flac")["problem"]
        alone.drained()
    finally:
        alone.clear()
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
