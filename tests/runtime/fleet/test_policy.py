"""The decisions of a worker."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.fleet import inflight, policy
from preheat.fleet.policy import View, seen, takes
from preheat.fleet.queue import Message


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
