"""Two workers, whatever the order of their steps, crashes, duplicates, replacements: transcripts are right.

hypothesis looks for an order of the worker's calls to AWS after which a recording lacks the transcript of its
present content, or has parts of another's. S3, SQS and EventBridge are moto's; see turns.py for the rest.
"""

import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from preheat.places.s3 import Location
from tests.fleet.fleet import Fleet
from tests.fleet.turns import Actor, take_turns

KEYS = st.sampled_from(["a.wav", "b.wav"])
CONTENTS = st.sampled_from(["one", "two words", "three", "bad"])
WHO = st.sampled_from([0, 1])
FAULTS = st.sampled_from(["before", "after"])


class Machine(RuleBasedStateMachine):
    """Two workers, a queue and a bucket."""

    fleet: Fleet
    home: Path
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        self.fleet.clear()
        self.folder = f"recordings/{next(self.numbers)}"
        self.there = dict[str, str]()  # contents, by key
        self.workers = [self.started(), self.started()]
        self.upload("a.wav", "one")

    def started(self) -> Actor:
        """A worker that has just been started."""
        return Actor(self.fleet.stack.queue_url, Location(self.fleet.stack.bucket, "transcripts/"), self.home)

    def busy(self, who: int) -> Actor:
        """A worker whose call waits: that one, or the other if that has none."""
        return self.workers[who] if self.workers[who].waits else self.workers[1 - who]

    def visible(self) -> bool:
        """Whether a worker without work could receive a message."""
        return self.fleet.waiting()[0] > 0 and any(worker.idle for worker in self.workers)

    @rule(key=KEYS, content=CONTENTS)
    def upload(self, key: str, content: str) -> None:
        """A user uploads a recording, or another one in its place."""
        self.there[key] = content
        self.fleet.upload(f"{self.folder}/{key}", content.encode())

    @precondition(lambda self: "b.wav" in self.there)
    @rule()
    def delete(self) -> None:
        """A user deletes a recording."""
        del self.there["b.wav"]
        self.fleet.s3.delete_object(Bucket=self.fleet.stack.bucket, Key=f"{self.folder}/b.wav")

    @precondition(lambda self: self.fleet.messages())
    @rule(number=st.integers(0, 3))
    def duplicate(self, number: int) -> None:
        """A message is delivered twice."""
        messages = self.fleet.messages()
        self.fleet.send(messages[number % len(messages)].body)

    @precondition(lambda self: self.fleet.waiting()[1] > 0)
    @rule()
    def expire(self) -> None:
        """The visibility of all messages in flight expires."""
        self.fleet.expire()

    @precondition(lambda self: self.visible())
    @rule(most=st.integers(1, 3))
    def receive(self, most: int) -> None:
        """A worker without work asks for messages."""
        idle = [worker for worker in self.workers if worker.idle]
        idle[0].receive(most)
        idle[0].step()

    @precondition(lambda self: any(worker.waits for worker in self.workers))
    @rule(who=WHO, calls=st.integers(1, 12))
    def step(self, who: int, calls: int) -> None:
        """A worker makes some calls to AWS."""
        worker = self.busy(who)
        for _ in range(calls):
            if worker.waits:
                worker.step()

    @precondition(lambda self: any(worker.waits for worker in self.workers))
    @rule(who=WHO, fault=FAULTS)
    def fail(self, who: int, fault: str) -> None:
        """A call to AWS fails for good."""
        self.busy(who).step(fault)

    @precondition(lambda self: any(worker.waits for worker in self.workers))
    @rule(who=WHO)
    def kill(self, who: int) -> None:
        """A worker is killed between two calls, and another one is started."""
        worker = self.busy(who)
        worker.kill()
        self.workers[self.workers.index(worker)] = self.started()

    def teardown(self) -> None:
        """Time passes until all work is done; then every recording has its transcript, and nothing else's."""
        for _ in range(20):
            for worker in self.workers:
                worker.finish()
            if not self.fleet.messages():
                break
            self.fleet.expire()
            self.workers[0].receive(10)
        assert not self.fleet.messages()
        for worker in self.workers:
            worker.kill()
        for key, content in self.there.items():
            self.check(f"{self.folder}/{key}", content)

    def check(self, key: str, content: str) -> None:
        """A recording has the transcript of its content, in all formats, or an error file."""
        found = self.fleet.results(key)
        if not content or content.startswith("bad"):
            assert "error.json" in found
            return
        assert set(found) == {"txt", "srt", "json"}
        assert found["txt"] == f"{content}\n"
        assert found["srt"].split("\n")[2:] == [content, "", ""]
        assert json.loads(found["json"])["text"] == content


def prepare(fleet: Fleet, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers of this process use the fleet."""
    for name, value in {
        "AWS_ENDPOINT_URL": fleet.server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    take_turns(monkeypatch)
    monkeypatch.setattr(Machine, "fleet", fleet, raising=False)
    monkeypatch.setattr(Machine, "home", home, raising=False)


def look(fleet: Fleet, home: Path, monkeypatch: pytest.MonkeyPatch, examples: int, repeatable: bool) -> None:
    """Try so many orders."""
    prepare(fleet, home, monkeypatch)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=repeatable,
        ),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A home with a model's name, and no more."""
    (tmp_path / "model/echo").mkdir(parents=True)
    (tmp_path / "model/echo/config.json").touch()
    return tmp_path


def test_no_order_loses_or_mixes_a_transcript(
    fleet: Fleet, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(fleet, model, monkeypatch, examples=8, repeatable=True)


@pytest.mark.slow
def test_no_order_of_many(fleet: Fleet, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(fleet, model, monkeypatch, examples=2000, repeatable=False)


@pytest.mark.parametrize("event", ["before", "kill", "replace", "second"])
def test_one_event_between_any_two_calls(
    event: str, fleet: Fleet, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call fails, the worker is killed, the recording replaced, another worker gets the message, too."""
    prepare(fleet, model, monkeypatch)
    for calls in range(1, 23, 3):
        machine = Machine()
        machine.receive(1)
        for _ in range(calls):
            machine.step(0, 1)
        if event == "before" and machine.workers[0].waits:
            machine.fail(0, event)
        if event == "kill" and machine.workers[0].waits:
            machine.kill(0)
        if event == "replace":
            machine.upload("a.wav", "two words")
        if event == "second":
            machine.expire()
            machine.workers[1].receive(10)
            machine.workers[1].finish()
        machine.teardown()
