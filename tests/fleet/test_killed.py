"""kill -9 at any moment, messages that come twice: in the end every transcript is there, once and whole."""

import os
import signal
from itertools import count
from pathlib import Path
from random import Random
from threading import Timer

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.gateway import Call
from tests.fleet.instance import Instance
from tests.runtime.places.proxy import Trouble

ROUND = 2  # recordings uploaded before each kill, and left when the next one begins


class Strike:
    """Kills a worker at one of its next calls to AWS: before, after, or a moment after AWS has done it."""

    def __init__(self, instance: Instance, random: Random) -> None:
        self.instance, self.at = instance, ""
        self._moment = random.choice(["before", "after", "later"])
        self._call, self._delay = random.randrange(15), random.uniform(0, 0.2)
        self._calls = count()
        instance.gateway.before, instance.gateway.after = self._before, self._after

    def _before(self, call: Call) -> Trouble | None:
        if self._moment != "before" or next(self._calls) != self._call:
            return None
        self._kill(call)
        return Trouble(status=503)

    def _after(self, call: Call) -> None:
        if self._moment != "before" and next(self._calls) == self._call:
            if self._moment == "after":
                self._kill(call)
            else:
                Timer(self._delay, self._kill, [call]).start()

    def _kill(self, call: Call) -> None:
        self.at = f"{self._moment} {call.name}"
        os.kill(self.instance.process.pid, signal.SIGKILL)


def survive(fleet: Fleet, samples: Path, seed: int, kills: int) -> None:
    """Upload recordings, kill workers; two run at a time, and what one leaves the other one gets."""
    random, moments, keys = Random(seed), list[str](), dict[str, str]()  # noqa: S311  no secrets
    content = {name: (samples / f"{name}.flac").read_bytes() for name in ("short", "noise")}
    running, dead = [fleet.launch(), fleet.launch()], list[Instance]()

    def left() -> int:
        fleet.expire(*dead)  # a long poll of theirs may have received messages after their end
        return sum(fleet.waiting())

    for number in range(kills):
        for each in range(ROUND):
            key, name = f"recordings/{number}-{each}.flac", random.choice(list(content))
            keys[key] = (samples / f"{name}.txt").read_text()
            fleet.upload(key, content[name])
        for message in random.sample(fleet.messages(), min(len(fleet.messages()), random.randrange(3))):
            fleet.send(message.body)
        victim = running.pop(0).ready()
        strike = Strike(victim, random)
        while victim.runs:
            fleet.pass_time()
        moments.append(strike.at)
        assert victim.ended() == -signal.SIGKILL, victim.said
        dead = [victim]
        running.append(fleet.launch())
        fleet.wait("work to be done", lambda: left() <= ROUND)
    fleet.wait("all work to be done", lambda: left() == 0)
    print(moments)  # for whoever looks into a failure
    assert fleet.dead() == 0
    for key, words in keys.items():
        results = fleet.transcript(key)
        assert results["txt"].split() == words.split()
        assert fleet.writes(f"{key}.json") == 1, key
        marks = fleet.noted(f"{key}.json")
        assert marks["complete"] and set(marks["formats"]) == set(results)


def test_killed_at_random_moments(alone: Fleet, samples: Path) -> None:
    survive(alone, samples, seed=1, kills=20)


@pytest.mark.slow
def test_killed_a_hundred_times(alone: Fleet, samples: Path) -> None:
    survive(alone, samples, seed=2, kills=100)
