"""From upload to transcript: one worker, recordings and messages of every kind."""

import json
import re
from collections.abc import Iterator
from email.header import Header
from pathlib import Path
from threading import Event

import pytest

from tests.fleet import messages
from tests.fleet.deployed import Deployed, deployed
from tests.fleet.deployer import aws
from tests.fleet.fleet import FORMATS
from tests.fleet.gateway import Call
from tests.fleet.instance import Instance, wait
from tests.runtime.soundfiles import RECORDINGS

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")  # moto, of what it does not make

KEYS = [
    "a recording with spaces.flac",
    "1+1=2 & 50%.flac",
    "a%20b%2Fc.flac",
    "Zürich/東京/naïve 🎙.flac",
    "deep/er/and/deeper.flac",
    "no-suffix",
    "../up//.flac",
]


@pytest.fixture(scope="module")
def fleet(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A fleet as `make fleet` makes it; it is removed again by `make fleet-remove`."""
    with aws() as cloud, deployed(cloud, home, tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def worker(fleet: Deployed, samples: Path) -> Instance:
    """An instance for most tests; an upload wakes it."""
    assert fleet.instances == {}
    fleet.upload("recordings/first.flac", (samples / "short.flac").read_bytes())
    fleet.transcript("recordings/first.flac")
    (instance,) = fleet.instances.values()
    return instance


def test_an_upload_wakes_the_fleet(fleet: Deployed, worker: Instance) -> None:
    """Nothing runs before. The record of the first job tells how the instance has come to be."""
    record = worker.job("recordings/first.flac")
    assert (record["outcome"], record["first_job"]) == ("done", True)
    assert record["start_s"] >= record["ready_s"] > 0
    fleet.wake({"source": "aws.events", "detail-type": "Scheduled Event"})
    fleet.pass_time()
    assert len(fleet.instances) == 1


def test_twenty_at_once(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """Each transcript is written once, and no message is left."""
    keys = [f"recordings/many/{number}.flac" for number in range(20)]
    names = ["noise" if number % 4 == 3 else "short" for number in range(20)]
    for key, name in zip(keys, names, strict=True):
        fleet.upload(key, (samples / f"{name}.flac").read_bytes())
    fleet.drained()
    for key, name in zip(keys, names, strict=True):
        assert fleet.transcript(key)["txt"].split() == (samples / f"{name}.txt").read_text().split()
        assert fleet.writes(f"{key}.json") == 1
        assert worker.job(key)["outcome"] == "done"
    assert fleet.dead() == 0


@pytest.mark.parametrize("key", KEYS)
def test_any_key(key: str, fleet: Deployed, worker: Instance, samples: Path) -> None:
    fleet.upload(f"recordings/{key}", (samples / "short.flac").read_bytes())
    assert fleet.transcript(f"recordings/{key}")["txt"].split() == (samples / "short.txt").read_text().split()
    assert worker.job(f"recordings/{key}")["outcome"] == "done"


def test_messages_of_s3_itself(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """Several recordings in one message, keys encoded; and the message that S3 sends to try the queue."""
    keys = [f"elsewhere/{key}" for key in KEYS[:4]]  # for which no rule of EventBridge sends a message
    for key in keys:
        fleet.upload(key, (samples / "short.flac").read_bytes())
    assert fleet.waiting() == (0, 0)
    fleet.send(messages.TEST)
    fleet.send(messages.by_s3(fleet.stack.bucket, *keys))
    for key in keys:
        assert "zero" in fleet.transcript(key)["txt"]
        assert worker.job(key)["outcome"] == "done"
    fleet.drained()


def test_results_beside_the_recordings_start_nothing(
    fleet: Deployed, worker: Instance, samples: Path
) -> None:
    """Even if messages come for them, as where the rule has no prefix."""
    fleet.upload("recordings/loop.flac", (samples / "short.flac").read_bytes())
    fleet.transcript("recordings/loop.flac")
    for key in ("transcripts/recordings/loop.flac.txt", "transcripts/recordings/loop.flac.json"):
        fleet.send(messages.by_eventbridge(fleet.stack.bucket, key))
        fleet.send(messages.by_s3(fleet.stack.bucket, key))
        assert worker.job(key)["outcome"] == "dropped"
    fleet.drained()
    assert not fleet.exists("transcripts/")


def test_a_folder_is_no_recording(fleet: Deployed, worker: Instance) -> None:
    """As S3's console makes them."""
    fleet.upload("recordings/folder/", b"")
    assert worker.job("recordings/folder/")["outcome"] == "dropped"
    fleet.drained()
    assert fleet.results("recordings/folder/") == {}


BROKEN = {
    "empty.wav": (b"", "empty"),
    "letter.wav": (b"Dear Sir or Madam, " * 1000, ""),
    "cut.flac": (b"fLaC", ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_recording(name: str, fleet: Deployed, worker: Instance) -> None:
    """Its error file says why, and the message is not tried again."""
    content, problem = BROKEN[name]
    fleet.upload(f"recordings/{name}", content)
    error = fleet.error(f"recordings/{name}")
    assert error["recording"] == f"s3://{fleet.stack.bucket}/recordings/{name}"
    assert problem in error["problem"] and "\n" not in error["problem"]
    assert set(error) == {"recording", "etag", "problem", "time", "fleet", "instance"}
    assert (error["fleet"], error["instance"]) == ("preheat", worker.identity)
    record = worker.job(f"recordings/{name}")
    assert (record["outcome"], record["problem"]) == ("failed", error["problem"])
    fleet.drained()
    assert set(fleet.results(f"recordings/{name}")) == {"error.json"}


def test_larger_than_the_disk(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """100 GB are refused before they are fetched."""
    worker.gateway.sizes[f"{fleet.stack.bucket}/recordings/huge.wav"] = 100 << 30
    fleet.upload("recordings/huge.wav", (samples / "short.flac").read_bytes())
    assert fleet.error("recordings/huge.wav")["problem"]
    fetched = [call.key for call in worker.gateway.named("s3:GET")]
    assert f"{fleet.stack.bucket}/recordings/huge.wav" not in fetched
    fleet.drained()


def test_what_is_gone(fleet: Deployed, worker: Instance) -> None:
    """There is nobody to tell: a record, and no error file."""
    fleet.send(messages.by_eventbridge(fleet.stack.bucket, "recordings/gone.wav"))
    assert worker.job("recordings/gone.wav")["outcome"] == "dropped"
    fleet.drained()
    assert fleet.results("recordings/gone.wav") == {}


def test_what_no_one_can_read(fleet: Deployed, worker: Instance) -> None:
    """Messages of other programs are recorded and deleted; they kill no worker."""
    before = len(worker.records)
    bodies = ["", "hello", "[]", "null", '{"Records": 3}', '{"detail": {}}', "{" * 10000, '{"Records": [{}]}']
    for body in bodies:
        fleet.send(body or " ")
    fleet.drained()
    wait("their records", lambda: len(worker.records) >= before + len(bodies))
    assert all(each["outcome"] == "failed" and each["problem"] for each in worker.records[before:])
    assert worker.runs and fleet.dead() == 0


def test_a_failure_mended(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """Uploaded again, and whole: the transcript takes the place of the error file."""
    fleet.upload("recordings/again.flac", b"half a recording")
    fleet.error("recordings/again.flac")
    fleet.upload("recordings/again.flac", (samples / "short.flac").read_bytes())
    fleet.wait("its transcript", lambda: fleet.exists("recordings/again.flac.json"))
    fleet.drained()
    assert set(fleet.results("recordings/again.flac")) == FORMATS


def test_cut_short(fleet: Deployed, worker: Instance) -> None:
    """What is there is transcribed, and both transcript and record say that something is missing."""
    fleet.upload("recordings/cut-short.mp3", (RECORDINGS / "cut-short.mp3").read_bytes())
    fleet.transcript("recordings/cut-short.mp3")
    assert not fleet.noted("recordings/cut-short.mp3.json")["complete"]
    assert worker.job("recordings/cut-short.mp3")["outcome"] == "incomplete"
    fleet.drained()


def test_delivered_twice(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """S3 and SQS promise to deliver at least once."""
    key = "recordings/twice.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes())
    (body,) = {message.body for message in fleet.messages()} or {
        json.dumps(messages.by_eventbridge(fleet.stack.bucket, key))
    }
    fleet.send(body)
    fleet.transcript(key)
    fleet.drained()
    fleet.send(body)
    fleet.drained()
    assert fleet.writes(f"{key}.json") == 1
    outcomes = [each["outcome"] for each in worker.jobs(key)]
    assert outcomes.count("done") == 1 and set(outcomes) <= {"done", "exists", "superseded"}


def test_replaced_while_it_is_transcribed(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """The results are those of the recording that is there in the end."""
    key, replaced = "recordings/replaced.flac", Event()

    def replace(call: Call) -> None:
        if call.name == "s3:PUT" and call.key.endswith("replaced.flac.txt") and not replaced.is_set():
            replaced.set()
            fleet.upload(key, (samples / "noise.flac").read_bytes())

    worker.gateway.after = replace
    fleet.upload(key, (samples / "short.flac").read_bytes())
    fleet.wait("the replacement", replaced.is_set)
    fleet.drained()
    assert fleet.transcript(key)["txt"].split() == []
    worker.gateway.after = lambda _: None


def test_options_of_one_recording(fleet: Deployed, worker: Instance, samples: Path) -> None:
    """Given as metadata of the object, a prompt beyond ASCII encoded as S3 gives it back (RFC 2047)."""
    prompt = Header("Zürich, Tōkyō", "utf-8").encode()
    key = "recordings/options.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes(), formats="txt,srt", language="en", prompt=prompt)
    fleet.wait("the transcript", lambda: fleet.exists(f"{key}.json"))
    fleet.drained()
    assert set(fleet.results(key)) == {"txt", "srt", "json"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("language", "Klingon"), ("task", "dance"), ("formats", "txt,docx"), ("formats", ",")],
)
def test_wrong_options_of_one_recording(
    name: str, value: str, fleet: Deployed, worker: Instance, samples: Path
) -> None:
    key = f"recordings/wrong-{name}-{len(value)}.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes(), **{name: value})
    assert name.rstrip("s") in fleet.error(key)["problem"]
    fleet.drained()
    assert worker.job(key)["outcome"] == "failed"
    assert set(fleet.results(key)) == {"error.json"}


def test_a_record_tells_the_way_from_upload_to_transcript(
    fleet: Deployed, worker: Instance, samples: Path
) -> None:
    """And it reaches CloudWatch as it is, with the metrics beside it."""
    key = "recordings/record.flac"
    fleet.upload(key, (samples / "short.flac").read_bytes())
    record = worker.job(key)
    facts = {
        "event": "job",
        "recording": f"s3://{fleet.stack.bucket}/{key}",
        "outcome": "done",
        "attempt": 1,
        "instance": worker.identity,
        "instance_type": "g6.xlarge",
        "lifecycle": "spot",
        "ami": worker.metadata.answers["ami-id"],
        "model": "whisper-nato",
        "Fleet": "preheat",
    }
    assert {name: record[name] for name in facts} == facts
    assert re.fullmatch('"?[0-9a-f]{32}"?', record["etag"])
    seconds = ["audio_s", "wait_s", "queue_s", "fetch_s", "decode_s", "upload_s", "total_s"]
    assert all(record[name] >= 0 for name in seconds)
    assert (
        record["total_s"] >= record["fetch_s"] + record["decode_s"] + record["upload_s"] - 1
    )  # S3's are whole s
    (block,) = record["_aws"]["CloudWatchMetrics"]
    assert (block["Namespace"], block["Dimensions"]) == ("preheat", [["Fleet"]])
    assert {"Jobs", "AudioSeconds", "WaitSeconds", "DecodeSeconds", "RealTimeFactor", "Attempts"} <= {
        metric["Name"] for metric in block["Metrics"]
    }
    assert all(isinstance(record[metric["Name"]], int | float) for metric in block["Metrics"])
    fleet.wait("the record in CloudWatch", lambda: record in fleet.logged(worker.identity))


def test_an_idle_instance_ends_itself(fleet: Deployed, worker: Instance) -> None:
    """And the fleet is as small as before."""
    before = fleet.desired()
    idle = fleet.launch(PREHEAT_IDLE_SECONDS="1")
    fleet.wait("its end", lambda: not idle.runs)
    assert (idle.ended(), fleet.desired()) == (0, before)
    assert worker.runs
