"""The decisions of a worker."""

import time
from collections.abc import Callable, Iterable
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.fleet import inflight, intake, policy
from preheat.fleet.policy import View, seen, takes
from preheat.fleet.queue import Message
from preheat.threads import start


def test_it_ends_when_idle_and_only_after_a_poll_that_found_nothing() -> None:
    assert policy.idle_end(300, 300, empty_poll=True)
    assert not policy.idle_end(300, 300, empty_poll=False)
    assert not policy.idle_end(299, 300, empty_poll=True)


def test_it_is_idle_from_the_end_of_its_last_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(inflight, "time", SimpleNamespace(monotonic=lambda: now))
    held, first, second = inflight.InFlight(), Message("1", "", "", 1, 0.0), Message("2", "", "", 1, 0.0)
    now = 10.0
    assert held.idle == 10 and held.empty
    held.add(first, 1)
    held.add(second, 2)
    now = 400.0
    assert held.done(first)
    held.drop(first)
    assert not held.done(second)
    now = 450.0
    assert held.idle == 0 and not held.empty
    now = 500.0
    assert held.done(second)
    held.drop(second)
    now = 507.0
    assert held.idle == 7 and held.empty


def test_a_poll_is_not_longer_than_the_idle_time_left() -> None:
    assert (policy.poll(0, 300), policy.poll(290.5, 300), policy.poll(400, 300)) == (20, 10, 1)


@given(st.integers(0, 40), st.floats(0, 20000), st.integers(0, 8 << 30))
def test_room_is_measured_in_audio_bytes_and_messages(messages: int, audio: float, size: int) -> None:
    room = policy.room(messages, audio, size)
    assert 0 <= room <= 10 and messages + room <= max(messages, 10)
    assert (room == 0) == (messages >= 10 or audio >= 7200 or size >= 4 << 30)


def test_a_large_recording_is_fetched_alone() -> None:
    assert policy.fits(100 << 30, 0) and not policy.fits(100 << 30, 1)
    assert policy.fits(2 << 30, 2 << 30) and not policy.fits((2 << 30) + 1, 2 << 30)


def test_pauses_grow() -> None:
    assert [policy.pause(attempt) for attempt in (1, 2, 3, 4, 5, 99)] == [20, 60, 180, 540, 900, 900]
    assert [policy.pause_of_queue(failures) for failures in (1, 2, 9)] == [2, 4, 30]


@pytest.mark.parametrize(
    ("action", "rebalance", "state", "takes_more", "ends"),
    [
        (None, False, "", True, None),
        (None, False, "InService", True, None),
        (None, True, "InService", True, None),
        (None, False, "Standby", False, None),
        (None, False, "Warmed:Running", False, None),
        (None, False, "Warmed:Stopped", False, None),
        (None, False, "Terminated", False, 1120),
        (None, False, "Warmed:Terminated", False, 1120),
        (1100.0, True, "InService", False, 1100),
        (1100.0, False, "Terminated", False, 1100),
        (1200.0, False, "Terminated", False, 1120),
    ],
)
def test_what_the_metadata_mean(
    action: float | None, rebalance: bool, state: str, takes_more: bool, ends: float | None
) -> None:
    view = seen(action, rebalance, state, View(), now=1000.0)
    assert (takes(view), view.ends) == (takes_more, ends)


def test_the_end_does_not_move_away() -> None:
    """As it would if the 120 s of the hook were counted from each look; or if a look found nothing."""
    first = seen(None, False, "Terminated", View("InService"), now=1000.0)
    assert seen(None, False, "Terminated", first, now=1050.0) == first
    assert seen(None, False, "", seen(1100.0, False, "", View(), 1000.0), now=1005.0).ends == 1100


def test_room_is_waited_for() -> None:
    """On the disk for another recording, in memory for its sound."""
    held, fetching, reading = inflight.InFlight(), Event(), Event()

    def after(step: Callable[[], None], done: Event) -> None:
        step()
        done.set()

    held.reserve(policy.BYTES)
    held.add_audio(policy.AUDIO)
    start(lambda: after(lambda: held.reserve(1), fetching))
    start(lambda: after(held.wait_for_audio_room, reading))
    time.sleep(0.2)
    assert not fetching.is_set() and not reading.is_set()
    held.free(1)
    assert fetching.wait(30) and not reading.is_set()
    held.add_audio(-1.0)
    assert reading.wait(30)


class Idle:
    """A worker without progress, its queue, and what is said of its instance; time passes as it waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: Iterable[int] = ()) -> None:
        """`failures`: of jobs in a row, at each poll."""
        self.takes, self.rebalance, self.now = True, False, 0.0
        self.asked, self.slept = list[tuple[int, int]](), list[float]()
        self._failures, self._ended = iter(failures), False
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        for module in (inflight, intake):
            monkeypatch.setattr(module, "time", clock)
        self.in_flight, self.queue, self.outcomes = inflight.InFlight(), self, self

    @property
    def failures(self) -> int:
        """As the worker's outcomes have it."""
        return next(self._failures, 0)

    @property
    def deadline(self) -> float | None:
        """The end that it asks for, or that of the test."""
        return self.now if self._ended or self.now > 1000 else None

    def wait(self, seconds: float) -> None:
        """Nothing changes."""
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Note it."""
        self.slept.append(seconds)
        self.now += seconds

    def receive(self, most: int, wait: int) -> list[Message]:
        """There is no message."""
        self.asked.append((most, wait))
        self.now += wait
        return []

    def run(self, limit: float) -> float | None:
        """How long it works until it asks for its end; None if it does not."""
        this: Any = self

        def end() -> None:
            self._ended = True

        intake.Intake(this, this, limit).run(lambda: None, end)
        return self.now if self._ended else None


def test_polls_of_a_worker_without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, without a wait, shows that the queue is there; its message may be one that kills."""
    idle = Idle(monkeypatch)
    assert idle.run(50) == 50
    assert idle.asked == [(1, 0), (10, 20), (10, 20), (10, 10)] and idle.slept == []
    assert idle.in_flight.steps == 4, "signs of life"


def test_at_risk_it_takes_one_and_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = Idle(monkeypatch)
    idle.rebalance = True
    assert idle.run(300) == 30
    assert {most for most, _ in idle.asked} == {1}


def test_in_standby_it_takes_nothing_and_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks into it."""
    idle = Idle(monkeypatch)
    idle.takes = False
    assert idle.run(50) is None and idle.asked == []
    assert idle.in_flight.steps > 100, "signs of life"


@pytest.mark.parametrize(
    ("messages", "audio", "size", "rebalance"),
    [(10, 0, 0, False), (1, 7200, 0, False), (1, 0, 4 << 30, False), (1, 0, 0, True)],
)
def test_with_enough_in_flight_it_asks_for_no_more(
    messages: int, audio: float, size: int, rebalance: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other instances may have them."""
    idle = Idle(monkeypatch)
    idle.rebalance = rebalance
    monkeypatch.setattr(idle.in_flight, "wait", idle.wait)
    for number in range(messages):
        idle.in_flight.add(Message(str(number), "", "", 1, 0.0), 1)
    idle.in_flight.add_audio(audio)
    idle.in_flight.announce(size)
    before = idle.in_flight.steps
    assert idle.run(50) is None and idle.asked == []
    assert idle.in_flight.steps == before, "no signs of life but the work's"


def test_jobs_that_fail_in_a_row_slow_it_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 may be out of reach; each message would be received in vain until it is a dead letter."""
    idle = Idle(monkeypatch, [0, 1, 1, 3, 0, 2])
    idle.run(100)
    assert idle.slept == [2, 8, 4]
