"""The end of an instance, announced in any phase of its work: that is finished, or handed back at once."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx2
import numpy as np
import pytest
import soundfile

from tests.fleet import stack
from tests.fleet.fleet import Fleet
from tests.fleet.gateway import Call
from tests.fleet.instance import Instance, wait
from tests.fleet.metadata_server import instant

KEY = "recordings/a.flac"
STATE = "autoscaling/target-lifecycle-state"
SOON = 16  # s until the end: in a second the worker has to hand back what it has
LATER = 100  # s until the end
FINISHED = [
    ("idle", "spot"),
    ("idle", "stopped"),
    ("fetching", "stopped"),
    ("decoding", "terminated"),
    ("uploading", "spot"),
]
HANDED_BACK = ["fetching", "decoding", "uploading"]
CASES = [*(f"{phase}-{name}" for phase, name in FINISHED), *HANDED_BACK, "rebalance"]


@pytest.fixture(scope="module")
def fleets(server: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Fleet]]:
    """A fleet for each case, each with an instance; those start side by side."""
    httpx2.post(f"{server}/moto-api/reset").raise_for_status()
    fleets = {
        name: Fleet(server, stack.made(server, name), home, tmp_path_factory.mktemp("instances"))
        for name in CASES
    }
    for fleet in fleets.values():
        fleet.launch()
    yield fleets
    for fleet in fleets.values():
        fleet.clear()


class Hold:
    """Holds a worker in a phase of its work on KEY, until it may go on."""

    def __init__(self, instance: Instance, phase: str) -> None:
        self.reached, self.go_on = Event(), Event()
        self._phase = phase
        instance.gateway.before, instance.gateway.after = self._before, self._after

    def _before(self, call: Call) -> None:
        at = {"fetching": ("s3:GET", KEY), "uploading": ("s3:PUT", f"{KEY}.txt")}.get(self._phase)
        if at and call.name == at[0] and call.key.endswith(at[1]):
            self.reached.set()
            self.go_on.wait()

    def _after(self, call: Call) -> None:
        if self._phase == "decoding" and call.name == "s3:GET" and call.key.endswith(KEY):
            self.reached.set()


def announce(name: str, instance: Instance) -> None:
    """Say that the instance ends: EC2 takes it back, its group ends it, or systemd stops the unit."""
    if name == "spot":
        instance.metadata.interrupt(LATER)
    elif name == "terminated":
        instance.metadata.answers[STATE] = "Terminated"
    else:
        instance.shut_down()


def test_at_risk_of_a_rebalance_it_takes_one_at_a_time(fleets: dict[str, Fleet], samples: Path) -> None:
    """Otherwise nothing might ever be done where all capacity is at risk. Without work, it ends
    soon: this test is the first, as its instance waits with those of the others.
    """
    fleet = fleets["rebalance"]
    (instance,) = fleet.instances.values()
    instance.ready()
    instance.metadata.answers["events/recommendations/rebalance"] = json.dumps({"noticeTime": instant()})
    heard(instance, "rebalance")
    hold = Hold(instance, "fetching")
    for key in (KEY, "recordings/later.flac"):
        fleet.upload(key, (samples / "short.flac").read_bytes())
    wait("fetching", hold.reached.is_set)
    time.sleep(2)
    assert sum(fleet.waiting()) == 2 and fleet.waiting()[1] == 1
    hold.go_on.set()
    for key in (KEY, "recordings/later.flac"):
        assert instance.job(key)["outcome"] == "done"


@pytest.mark.parametrize(("phase", "name"), FINISHED)
def test_work_is_finished_and_no_other_taken(
    phase: str, name: str, fleets: dict[str, Fleet], samples: Path
) -> None:
    fleet = fleets[f"{phase}-{name}"]
    (instance,) = fleet.instances.values()
    instance.ready()
    hold = Hold(instance, phase)
    if phase == "idle":
        instance.gateway.poll = None  # its long poll is as long as it asks for
        asked = len(instance.gateway.named("sqs:ReceiveMessage"))
        wait("its poll", lambda: len(instance.gateway.named("sqs:ReceiveMessage")) > asked)
    else:
        fleet.upload(KEY, (samples / ("long.flac" if phase == "decoding" else "short.flac")).read_bytes())
        wait(phase, hold.reached.is_set)
    announce(name, instance)
    if name == "stopped":
        hold.go_on.set()
    else:
        heard(instance, "ends at")
        if phase == "uploading":
            fleet.upload("recordings/later.flac", (samples / "short.flac").read_bytes())
        hold.go_on.set()
    assert instance.ended() == 0
    assert len(instance.gateway.named("autoscaling:CompleteLifecycleAction")) == (name != "stopped")
    if phase != "idle":
        assert [each["outcome"] for each in instance.jobs(KEY)] == ["done"]
        assert fleet.writes(f"{KEY}.json") == 1
        assert instance.jobs("recordings/later.flac") == []
        assert instance.records == fleet.logged(instance.identity)


@pytest.mark.parametrize("phase", HANDED_BACK)
def test_what_cannot_be_finished_is_handed_back_at_once(
    phase: str, fleets: dict[str, Fleet], samples: Path
) -> None:
    fleet = fleets[phase]
    (instance,) = fleet.instances.values()
    instance.ready()
    hold = Hold(instance, phase)
    fleet.upload(KEY, (samples / "long.flac").read_bytes() if phase != "decoding" else hour(samples))
    wait(phase, hold.reached.is_set)
    instance.metadata.interrupt(SOON)
    try:
        assert instance.ended() == 0
    finally:
        hold.go_on.set()
    assert fleet.waiting() == (1, 0), "visible to others, without a wait"
    calls = [call.name for call in instance.gateway.calls]
    assert calls.index("autoscaling:CompleteLifecycleAction") == len(calls) - 1, "which may be its end"
    (record,) = instance.jobs(KEY)
    assert record["outcome"] in ("released", "interrupted")
    assert fleet.logged(instance.identity) == [record]
    assert fleet.writes(f"{KEY}.json") == 0


def heard(instance: Instance, words: str) -> None:
    """Wait until the worker says that it has heard the news, and until its last poll is over."""
    wait("the worker to hear of it", lambda: any(words in line for line in instance.said))
    time.sleep(1.5)


def hour(samples: Path) -> bytes:
    """A recording that takes the model longer than the worker has."""
    sound, rate = soundfile.read(samples / "long.flac", dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, np.tile(sound, 3600 * rate // len(sound)), rate, format="FLAC")
    return file.getvalue()
