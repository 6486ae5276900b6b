"""The record of a job: a line of JSON for people and programs, which CloudWatch reads metrics from (EMF)."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from preheat.fleet.events import Upload
from preheat.fleet.metadata import Host
from preheat.fleet.queue import Message

NAMESPACE = "preheat"
DONE, INCOMPLETE, EXISTS, SUPERSEDED = "done", "incomplete", "exists", "superseded"
FAILED, DROPPED, RELEASED, INTERRUPTED, RETRIED = "failed", "dropped", "released", "interrupted", "retried"
MADE = (DONE, INCOMPLETE)
UNITS = {
    "Jobs": "Count",
    "Failed": "Count",
    "Incomplete": "Count",
    "Interrupted": "Count",
    "Released": "Count",
    "Attempts": "Count",
    "AudioSeconds": "Seconds",
    "WaitSeconds": "Seconds",
    "StartSeconds": "Seconds",
    "DecodeSeconds": "Seconds",
    "RealTimeFactor": "None",
}


@dataclass
class Times:
    """What a job took, in seconds; None: it did not get so far."""

    audio: float | None = None
    fetch: float | None = None
    read: float | None = None
    decode: float | None = None
    upload: float | None = None


@dataclass(frozen=True)
class Startup:
    """How the worker came to be, in seconds; None if the instance's launch is not known."""

    booted: float | None = None  # launch → kernel
    ready: float = 0.0  # start of this process → ready
    start: float | None = None  # launch → ready


@dataclass
class RecordBuilder:
    """Makes the records of one worker."""

    fleet: str
    host: Host
    model: str
    startup: Startup = field(default_factory=Startup)
    _count: int = 0  # jobs that have made a transcript

    def record(
        self,
        outcome: str,
        message: Message,
        upload: Upload | None = None,
        times: Times | None = None,
        problem: str | None = None,
    ) -> dict[str, Any]:
        """The record of a job. Not for several threads at a time."""
        times, now = times or Times(), time.time()
        first = outcome in MADE and self._count == 0
        self._count += outcome in MADE
        when = upload.when if upload else None
        facts = {
            "fleet": self.fleet,
            "event": "job",
            "recording": str(upload.where) if upload else None,
            "etag": upload.etag if upload else None,
            "message": message.id,
            "outcome": outcome,
            "problem": problem,
            "audio_s": times.audio,
            "wait_s": since(when, message.received),
            "queue_s": since(message.sent, message.received),
            "fetch_s": times.fetch,
            "read_s": times.read,
            "decode_s": times.decode,
            "upload_s": times.upload,
            "total_s": since(when, now) if outcome in MADE else None,
            "attempt": message.attempt,
            "instance": self.host.instance,
            "instance_type": self.host.instance_type,
            "lifecycle": self.host.lifecycle,
            "ami": self.host.ami,
            "model": self.model,
            "launched": self.host.launched or None,
            "first_job": first,
            "booted_s": self.startup.booted if first else None,
            "ready_s": self.startup.ready if first else None,
            "start_s": self.startup.start if first else None,
        }
        rounded = {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in facts.items()
            if value is not None
        }
        return rounded | embedded(self.fleet, metrics(rounded), now)


def since(then: float | None, now: float) -> float | None:
    """Seconds between two times; clocks of two machines may differ by a little."""
    return None if then is None else max(now - then, 0.0)


def metrics(facts: dict[str, Any]) -> dict[str, float]:
    """The metrics of a record: only those that apply."""
    outcome = facts["outcome"]
    if outcome in (RELEASED, INTERRUPTED):
        return {outcome.capitalize(): 1}
    if outcome == FAILED:
        return {"Failed": 1, "Attempts": facts["attempt"]}
    if outcome not in MADE:
        return {}
    found = {"Jobs": 1, "Attempts": facts["attempt"], "AudioSeconds": facts.get("audio_s")}
    found |= {"WaitSeconds": facts.get("wait_s"), "DecodeSeconds": facts.get("decode_s")}
    found |= {"StartSeconds": facts.get("start_s"), "Incomplete": 1 if outcome == INCOMPLETE else None}
    if facts.get("audio_s") and facts.get("decode_s"):
        found["RealTimeFactor"] = round(facts["audio_s"] / facts["decode_s"], 1)
    return {name: value for name, value in found.items() if value is not None}


def embedded(fleet: str, values: dict[str, float], now: float) -> dict[str, Any]:
    """Metrics in CloudWatch's embedded metric format, to be merged into a record, if there are any."""
    if not values:
        return {}
    named = [{"Name": name, "Unit": UNITS[name]} for name in values]
    asked = {"Namespace": NAMESPACE, "Dimensions": [["Fleet"]], "Metrics": named}
    return values | {"Fleet": fleet, "_aws": {"Timestamp": round(now * 1000), "CloudWatchMetrics": [asked]}}


def line(record: dict[str, Any]) -> str:
    """A record as a line."""
    return json.dumps(record, ensure_ascii=False)
