"""Two workers, whatever the order of their steps, crashes, duplicates, replacements: transcripts are right.

hypothesis looks for an order of the worker's calls to AWS after which a recording lacks the transcript of its
present content, or has parts of another's; and events come before a worker's calls, alone or in pairs. S3,
SQS and EventBridge are moto's; see turns.py for the rest.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from moto import mock_aws

from preheat.places.s3 import Location
from tests.fleet import stack
from tests.fleet.fleet import Fleet
from tests.fleet.turns import Actor, take_turns

KEYS = st.sampled_from(["a.wav", "b.wav"])
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
        self.versions = count()
        self.killed = False  # whether a worker has been, in the middle of its work
        self.workers = [self.started(), self.started()]
        self.upload("a.wav", bad=False)
        self.first = self.there["a.wav"]

    def started(self) -> Actor:
        """A worker that has just been started."""
        return Actor(self.fleet.stack.queue_url, Location(self.fleet.stack.bucket, "transcripts/"), self.home)

    def busy(self, who: int) -> Actor:
        """A worker whose call waits: that one, or the other if that has none."""
        return self.workers[who] if self.workers[who].waits else self.workers[1 - who]

    def visible(self) -> bool:
        """Whether a worker without work could receive a message."""
        return self.fleet.waiting()[0] > 0 and any(worker.idle for worker in self.workers)

    @rule(key=KEYS, bad=st.sampled_from([False, False, False, True]))
    def upload(self, key: str, bad: bool, same: bool = False, **metadata: str) -> None:
        """A user uploads a recording, or another one in its place, or the same one; none comes back."""
        if not same or key not in self.there:
            self.there[key] = f"{'bad' if bad else 'good'} {next(self.versions)}"
        self.fleet.upload(f"{self.folder}/{key}", self.there[key].encode(), **metadata)

    def put_back(self, key: str) -> None:
        """A user uploads again what was there first."""
        if key in self.there:
            self.there[key] = self.first
            self.upload(key, bad=False, same=True)

    @precondition(lambda self: "b.wav" in self.there)
    @rule(key=st.just("b.wav"))
    def delete(self, key: str) -> None:
        """A user deletes a recording."""
        if self.there.pop(key, None):
            self.fleet.s3.delete_object(Bucket=self.fleet.stack.bucket, Key=f"{self.folder}/{key}")

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
        self.killed = True
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
        """A recording has the transcript of its content, in all formats, or an error file.

        A worker that has lost its message, and dies, may leave an error file; it names another content.
        """
        found = self.fleet.results(key)
        if content.startswith("bad"):
            assert "error.json" in found
            return
        etag = md5(content.encode(), usedforsecurity=False).hexdigest()
        if late := found.pop("error.json", ""):
            assert self.killed and json.loads(late)["etag"] != etag
        assert set(found) == {"txt", "srt", "json"}
        assert found["txt"] == f"{content}\n"
        assert found["srt"].split("\n")[2:] == [content, "", ""]
        assert json.loads(found["json"])["text"] == content


def one(machine: Machine) -> Actor:
    """The worker that events happen to."""
    return machine.workers[0]


def other(machine: Machine, calls: int = 1000) -> None:
    """Another worker does all that is left, or makes some calls for it."""
    worker = machine.workers[1]
    if worker.idle:
        worker.receive(10)
    for _ in range(calls):
        if worker.waits:
            worker.step()


def other_does_all(machine: Machine) -> None:
    """Visibility expires, and another worker does all that is left, also what the first one has in hand."""
    machine.expire()
    other(machine)


def fail(machine: Machine, fault: str) -> None:
    """The call that waits fails."""
    one(machine).step(fault)


def replaced(machine: Machine, bad: bool = False, **metadata: str) -> None:
    """The recording is replaced, and another worker does the newer one."""
    machine.upload("a.wav", bad, **metadata)
    other_does_all(machine)


def begun(machine: Machine, calls: int) -> None:
    """The recording is replaced, and another worker has made some calls for the newer one."""
    machine.upload("a.wav", bad=False)
    machine.expire()
    other(machine, calls)


def another_begun(machine: Machine) -> None:
    """Visibility expires, and another worker begins with the same message."""
    machine.expire()
    other(machine, 8)


def another_dies(machine: Machine) -> None:
    """The other worker makes a few calls more, and is killed."""
    other(machine, 3)
    machine.workers[1].kill()
    machine.killed = True
    machine.workers[1] = machine.started()


def deleted(machine: Machine) -> None:
    """The recording is deleted."""
    machine.delete("a.wav")


def duplicated(machine: Machine) -> None:
    """The message is delivered twice, and another worker does its work."""
    if machine.fleet.messages():
        machine.duplicate(0)
    other(machine)


EVENTS: dict[str, Callable[[Machine], None]] = {
    "fails before": partial(fail, fault="before"),
    "fails after": partial(fail, fault="after"),
    "killed": lambda machine: machine.kill(0),
    "expired": lambda machine: machine.expire(),
    "replaced": lambda machine: machine.upload("a.wav", bad=False),
    "replaced, done": replaced,
    "replaced by a bad one, done": partial(replaced, bad=True),
    "replaced, begun": partial(begun, calls=6),
    "replaced, written in part": partial(begun, calls=20),
    "put back": lambda machine: machine.put_back("a.wav"),
    "other options": lambda machine: machine.upload("a.wav", bad=False, same=True, language="de"),
    "another too": other_does_all,
    "another begun": another_begun,
    "another dies": another_dies,
    "duplicated": duplicated,
    "deleted": deleted,
}
CALLS = 18  # of a worker for a recording, after it has received the message
BEGINNINGS = ("new", "replaces", "was bad", "is bad")
Case = tuple[str, tuple[tuple[int, str], ...]]  # a beginning; events, each before a call

SINGLE: list[Case] = [
    (beginning, ((call, event),)) for beginning in BEGINNINGS for call in range(CALLS) for event in EVENTS
]
PAIRS: list[Case] = [
    (beginning, ((call, first), (call + later, second)))
    for beginning, ((call, first),) in SINGLE
    for later in range(CALLS)
    for second in EVENTS
]
DIRECTED: list[Case] = [  # what each step of a job is there for
    ("put back", ()),
    *(("put back", ((call, "killed"),)) for call in range(CALLS)),
    *(("new", ((call, "replaced"), (call + 1, "put back"))) for call in range(CALLS)),
    *(("new", ((call, "replaced, begun"),)) for call in range(CALLS)),
    *(("is bad", ((call, "replaced, done"),)) for call in range(CALLS)),
    *(("new", ((call, "fails before"),)) for call in (3, 6, 8)),
    *(("new", ((call, "another begun"), (8, "another dies"), (8, "killed"))) for call in (5, 6, 7)),
    # Another has done a newer recording, and deleted the message of a worker that then dies.
    *(
        (beginning, ((call, done), (call + later, "killed")))
        for beginning in ("new", "replaces")
        for done in ("replaced, done", "replaced by a bad one, done")
        for call in (7, 8, 9)  # when it has fetched the older one
        for later in (1, 2, 3)
    ),
    # The other one's recording is a bad one, and the worker is about to remove an older error file.
    *(
        ("was bad", ((call, "replaced by a bad one, done"), (call + later, "killed")))
        for call in range(15, CALLS + 2)
        for later in (1, 2)
    ),
]


def run(case: Case) -> None:
    """Have events come before some calls of a worker."""
    beginning, events = case
    machine = Machine()
    if beginning in ("replaces", "was bad"):
        machine.upload("a.wav", bad=beginning == "was bad")
        other(machine)
        machine.upload("a.wav", bad=False)
    if beginning == "put back":
        other(machine)
        machine.upload("a.wav", bad=True)
        other(machine)
        machine.put_back("a.wav")
    if beginning == "is bad":
        machine.upload("a.wav", bad=True)
    machine.first = machine.there["a.wav"]
    one(machine).receive(1)
    one(machine).step()
    made = 0
    for call, event in events:
        while one(machine).waits and made < call:
            one(machine).step()
            made += 1
        if not one(machine).waits:
            break
        EVENTS[event](machine)
    try:
        machine.teardown()
    except AssertionError as error:
        raise AssertionError(f"{case}: {error}") from error


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose AWS is moto in this process, without HTTP, as there are many calls."""
    folder = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        take_turns(patch)
        (folder / "model/echo").mkdir(parents=True)
        (folder / "model/echo/config.json").touch()
        fleet = Fleet("", stack.made("", "preheat"), folder, folder / "instances")
        patch.setattr(Machine, "fleet", fleet, raising=False)
        patch.setattr(Machine, "home", folder, raising=False)
        yield fleet


def look(examples: int) -> None:
    """Try so many orders."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def sample(cases: list[Case], number: int) -> None:
    """Run some cases, always the same ones."""
    for case in Random(1).sample(cases, number):  # noqa: S311  no secrets
        run(case)


@pytest.mark.usefixtures("fleet")
def test_no_order_loses_or_mixes_a_transcript() -> None:
    look(10)


@pytest.mark.usefixtures("fleet")
def test_events_that_the_steps_are_there_for() -> None:
    for case in DIRECTED:
        run(case)


@pytest.mark.usefixtures("fleet")
def test_some_events_and_pairs_of_events() -> None:
    sample(SINGLE, 60)
    sample(PAIRS, 50)


@pytest.mark.slow
@pytest.mark.usefixtures("fleet")
def test_many_orders() -> None:
    look(200)
    for case in SINGLE:
        run(case)
    sample(PAIRS, 1000)


@pytest.mark.usefixtures("fleet")
def test_the_json_comes_last() -> None:
    """Whoever waits for it finds all formats."""
    machine = Machine()
    one(machine).receive(1)
    while one(machine).waits:
        one(machine).step()
        found = machine.fleet.results(f"{machine.folder}/a.wav")
        assert "json" not in found or set(found) == {"txt", "srt", "json"}
    machine.teardown()
