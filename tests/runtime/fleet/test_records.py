"""Records of jobs, and their way to CloudWatch Logs, which is moto's."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from preheat.fleet import records, sender
from preheat.fleet.events import Upload
from preheat.fleet.metadata import Host
from preheat.fleet.queue import Message
from preheat.fleet.records import RecordBuilder, Startup, Times
from preheat.fleet.sender import Sender
from preheat.places import aws
from preheat.places.s3 import Location
from tests.fleet.gateway import Gateway
from tests.runtime.places.conftest import Bucket
from tests.runtime.places.proxy import Proxy, Trouble

HOST = Host("i-1", "g6.xlarge", "spot", "ami-1", "2026-11-29T10:00:00Z")
UPLOAD = Upload(Location("calls", "ü a.wav"), 5, "etag", 1000.0)
MESSAGE = Message("m-1", "receipt", "{}", 2, 1001.5, 1003.0)
MADE = {"Jobs", "Attempts", "AudioSeconds", "WaitSeconds", "DecodeSeconds", "StartSeconds", "RealTimeFactor"}
TIMES = Times(audio=60.0, fetch=0.2, read=0.3, decode=2.0, upload=0.1)


def builder() -> RecordBuilder:
    """A worker's."""
    return RecordBuilder("fleet", HOST, "large", Startup(18.0, 4.0, 25.0))


def metrics(record: dict[str, Any]) -> dict[str, Any]:
    """The metrics that CloudWatch reads from a record; checks the form that it wants."""
    if "_aws" not in record:
        return {}
    (asked,) = record["_aws"]["CloudWatchMetrics"]
    assert asked["Namespace"] == "preheat" and asked["Dimensions"] == [["Fleet"]]
    assert record["Fleet"] == "fleet"
    assert abs(record["_aws"]["Timestamp"] / 1000 - time.time()) < 60
    names = [each["Name"] for each in asked["Metrics"]]
    assert all(isinstance(record[name], int | float) for name in names)
    assert {each["Unit"] for each in asked["Metrics"]} <= {"Count", "Seconds", "None"}
    return {name: record[name] for name in names}


def test_a_job_from_upload_to_transcript() -> None:
    record = builder().record(records.DONE, MESSAGE, UPLOAD, TIMES)
    assert metrics(record) == {
        "Jobs": 1,
        "Attempts": 2,
        "AudioSeconds": 60,
        "WaitSeconds": 3,
        "DecodeSeconds": 2,
        "StartSeconds": 25,
        "RealTimeFactor": 30,
    }
    assert record.pop("total_s") > 3
    for name in ("_aws", "Fleet", *metrics(record | {"_aws": record["_aws"]})):
        record.pop(name)
    assert record == {
        "fleet": "fleet",
        "event": "job",
        "recording": "s3://calls/ü a.wav",
        "etag": "etag",
        "message": "m-1",
        "outcome": "done",
        "audio_s": 60,
        "wait_s": 3,
        "queue_s": 1.5,
        "fetch_s": 0.2,
        "read_s": 0.3,
        "decode_s": 2,
        "upload_s": 0.1,
        "attempt": 2,
        "instance": "i-1",
        "instance_type": "g6.xlarge",
        "lifecycle": "spot",
        "ami": "ami-1",
        "model": "large",
        "launched": "2026-11-29T10:00:00Z",
        "first_job": True,
        "booted_s": 18,
        "ready_s": 4,
        "start_s": 25,
    }


def test_the_start_counts_once() -> None:
    """With the first transcript, whatever came before it."""
    writer = builder()
    outcomes = (records.FAILED, records.EXISTS, records.INCOMPLETE, records.DONE)
    found = [writer.record(outcome, MESSAGE, UPLOAD, TIMES) for outcome in outcomes]
    assert [each["first_job"] for each in found] == [False, False, True, False]
    assert ["StartSeconds" in each for each in found] == [False, False, True, False]


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [
        (records.INCOMPLETE, MADE | {"Incomplete"}),
        (records.FAILED, {"Failed", "Attempts"}),
        (records.RELEASED, {"Released"}),
        (records.INTERRUPTED, {"Interrupted"}),
        (records.EXISTS, set()),
        (records.DROPPED, set()),
        (records.RETRIED, set()),
        (records.SUPERSEDED, set()),
    ],
)
def test_only_the_metrics_that_apply(outcome: str, wanted: set[str]) -> None:
    record = builder().record(outcome, MESSAGE, UPLOAD, TIMES, "why")
    found = metrics(record)
    assert set(found) == wanted and ("_aws" in record) == bool(wanted)
    assert {found[name] for name in wanted & {"Failed", "Incomplete", "Released", "Interrupted"}} <= {1}


def test_clocks_of_two_machines_differ() -> None:
    """No time is below 0."""
    record = builder().record(records.DONE, replace(MESSAGE, received=999.0), UPLOAD, TIMES)
    assert (record["wait_s"], record["queue_s"]) == (0, 0)


def test_what_is_not_known_is_left_out() -> None:
    bare = RecordBuilder("fleet", Host(), "large").record(
        records.DONE, MESSAGE, Upload(UPLOAD.where), Times()
    )
    assert set(metrics(bare)) == {"Jobs", "Attempts"}
    assert "total_s" not in bare and "launched" not in bare and None not in bare.values()
    assert json.loads(records.line(bare)) == bare and "\n" not in records.line(bare)


@pytest.fixture
def logs(bucket: Bucket, server: str) -> Any:
    """CloudWatch Logs, as its owner sees it, with a log group."""
    client = boto3.client("logs", endpoint_url=server, region_name="us-east-1")
    client.create_log_group(logGroupName="jobs")
    return client


def sent(logs: Any) -> list[str]:
    """The lines there are."""
    found = logs.filter_log_events(logGroupName="jobs", logStreamNames=["i-1"])["events"]
    return [each["message"] for each in found]


def new_sender() -> Sender:
    """A sender that does not wait long for an answer."""
    return Sender(aws.client("logs", retries={"total_max_attempts": 1}), "jobs", "i-1")


def test_lines_are_sent_at_the_end_at_the_latest(logs: Any) -> None:
    given = new_sender()
    for number in range(250):
        given.add(f"line {number}")
    given.flush(30)
    assert sent(logs) == [f"line {number}" for number in range(250)]


def test_lines_are_sent_by_themselves(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "EVERY", 0.1)
    new_sender().add("line")
    end = time.monotonic() + 30
    while not logs.describe_log_streams(logGroupName="jobs")["logStreams"] or not sent(logs):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_line_waits_for_nothing(logs: Any, proxy: Proxy) -> None:
    """Not even where CloudWatch does not answer: the work goes on."""
    proxy.trouble = lambda *_: Trouble(wait=3)
    given, begin = new_sender(), time.monotonic()
    for number in range(20):
        given.add(f"line {number}")
    assert time.monotonic() - begin < 2
    proxy.trouble = lambda *_: None
    given.flush(30)
    assert len(sent(logs)) == 20


def test_lines_are_in_the_order_of_time(logs: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CloudWatch Logs refuses others; the clock may be set back, as when the machine has just booted."""
    now = time.time()
    clock = iter([now, now - 5, now - 4])
    with Gateway(server) as gateway:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
        given = new_sender()
        with monkeypatch.context() as patch:
            patch.setattr(sender, "time", SimpleNamespace(time=lambda: next(clock), sleep=time.sleep))
            for number in range(3):
                given.add(f"line {number}")
        given.flush(30)
        (*_, put) = gateway.named("logs:PutLogEvents")
    assert [each["message"] for each in json.loads(put.body)["logEvents"]] == ["line 1", "line 2", "line 0"]
    assert sorted(sent(logs)) == ["line 0", "line 1", "line 2"]


def test_a_loss_is_counted_and_stops_nothing(
    logs: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sender, "EVERY", 0.1)
    monkeypatch.setattr(sender, "MOST", 3)
    proxy.trouble = lambda *_: Trouble(status=503)
    given = new_sender()
    for number in range(5):
        given.add(f"line {number}")
    given.flush(0.5)
    assert "CloudWatch Logs did not get 5 job records; they are in the journal" in capsys.readouterr().err
    proxy.trouble = lambda *_: None
    given.flush(30)
    assert sent(logs) == ["line 2", "line 3", "line 4"]
    assert "did not get 2 job records" in capsys.readouterr().err


def test_the_newest_lines_wait(
    logs: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory would run out, were it all that a worker tells while CloudWatch does not answer."""
    monkeypatch.setattr(sender, "EVERY", 1.0)
    monkeypatch.setattr(sender, "MOST", 3)
    given = new_sender()

    def add(numbers: range) -> None:
        for number in numbers:
            given.add(f"line {number}")

    def failing(*_: object) -> Trouble:
        proxy.trouble = lambda *_: None
        add(range(8, 10))
        return Trouble(status=503)

    add(range(5))
    given.flush(30)
    assert sent(logs) == ["line 2", "line 3", "line 4"]
    assert "did not get 2 job records" in capsys.readouterr().err
    proxy.trouble = failing
    add(range(5, 8))
    given.flush(30)
    assert sent(logs)[3:] == ["line 7", "line 8", "line 9"]
    assert "did not get 4 job records" in capsys.readouterr().err
