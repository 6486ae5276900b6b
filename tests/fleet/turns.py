"""Runs the worker's own code step by step: each of its calls to AWS waits for its turn, or for its end.

The model is left out: a transcript is a function of the recording's content. Everything of a worker runs in
one thread, so that only the turns decide the order of calls.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from threading import Condition, Thread, current_thread
from typing import Any, BinaryIO

import pytest
from botocore.exceptions import EndpointConnectionError

from preheat.delivery import Recipe
from preheat.fleet import queue as queues
from preheat.fleet.choices import Choices
from preheat.fleet.jobs import Rules
from preheat.fleet.metadata import Host
from preheat.fleet.records import RecordBuilder
from preheat.fleet.worker import Worker
from preheat.options import Options
from preheat.places import aws, results, s3
from preheat.storage import InputError
from preheat.subtitles import Lines
from preheat.transcript import Segment, Transcript


class KilledError(BaseException):
    """The worker is dead; none of its calls reaches AWS. No code of the worker catches it."""


class Inline:
    """Runs in the calling thread what others run in threads of a pool."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, work: Callable[..., Any], *over: Any) -> Iterator[Any]:
        """The results of all calls, made one after the other."""
        return iter([work(*each) for each in zip(*over, strict=False)])


class Client:
    """A client of boto3 whose calls wait for the worker's turn."""

    def __init__(self, client: Any, actor: "Actor") -> None:
        self._client, self._actor = client, actor

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name in ("exceptions", "get_paginator"):
            return found
        return lambda **parameters: self._actor.call(partial(found, **parameters), name)


class Heard:
    """What a recording holds, in place of its samples."""

    seconds = 1.0

    def __init__(self, text: str) -> None:
        self.text = text


class Engine:
    """In place of the model: what is in a file is what is said, unless it begins with "bad"."""

    def check(self, options: Options) -> None:
        """Any options will do."""

    def read(self, file: BinaryIO, options: Options) -> list[Heard]:
        """The text of a recording. Raises InputError."""
        del options
        text = file.read().decode()
        if text.startswith("bad"):
            raise InputError("cannot be read; record it again")
        return [Heard(text)]

    def transcribe(self, prepared: list[Heard], options: Options, progress: Callable[[], None]) -> Transcript:
        """Its words."""
        del options, progress
        text = prepared[0].text
        return Transcript("en", [Segment(0, 0.0, 1.0, text, [], 0.0, 0.0, 1.0, 0.0)])


@cache
def client(service: str) -> Any:
    """A client of boto3, for all workers."""
    return aws.client(service)


class Tasks:
    """In place of a pool: what is submitted is left for the worker's only thread."""

    def __init__(self) -> None:
        self._left: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[..., None], *arguments: Any) -> None:
        """Leave it for later."""
        self._left.append(partial(work, *arguments))

    def do(self) -> bool:
        """Do the next task; False if there is none."""
        if self._left:
            self._left.popleft()()
            return True
        return False


class Actor:
    """A worker whose every call to AWS waits for `step`."""

    def __init__(self, url: str, output: s3.Location, home: Path) -> None:
        """`url`: of the queue; `home`: a folder with a model."""
        self.waits: str | None = None  # the call that waits for its turn
        self.idle, self.dead = True, False
        self._changed, self._turn, self._fault = Condition(), False, ""
        self._failed: Exception | None = None
        self._orders: deque[int] = deque()
        self._tasks = Tasks()
        choices = Choices(formats=("txt", "srt", "json"))
        recipe = Recipe(choices.options, Lines(), False, home, None)
        rules = Rules(output, choices, recipe, lambda _: None)
        queue = queues.Queue(Client(client("sqs"), self), url)
        builder = RecordBuilder("preheat", Host(), "echo")
        self.told: list[str] = []  # records of jobs, as lines
        engine: Any = Engine()
        self._worker = Worker(queue, engine, rules, builder, self.told.append)
        self._worker._fetchers = self._worker._deliverers = self._tasks  # type: ignore[assignment]
        self.s3 = Client(client("s3"), self)
        thread = Thread(target=self._live, daemon=True)
        ACTORS[thread] = self
        thread.start()

    def receive(self, most: int) -> None:
        """Have it receive messages, and work until all are done; it stops before its first call."""
        assert self.idle
        with self._changed:
            self._orders.append(most)
            self.idle = False
            self._go_on()

    def step(self, fault: str = "") -> None:
        """Let it make the call that waits. `fault`: "before" or "after" AWS has done it, the call fails."""
        assert self.waits
        with self._changed:
            self._turn, self._fault, self.waits = True, fault, None
            self._go_on()

    def finish(self) -> None:
        """Let it make all of its calls."""
        while self.waits:
            self.step()

    def kill(self) -> None:
        """End it; the call that waits is not made."""
        with self._changed:
            self.dead = True
            self._changed.notify_all()

    def call(self, work: Callable[[], Any], name: str) -> Any:
        """Make a call when its turn has come."""
        with self._changed:
            self.waits = name
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._turn or self.dead)
            if self.dead and current_thread() in ACTORS:
                raise KilledError
            if self.dead:  # s3transfer, which would wait for ever for a thread that ends in its own way
                raise EndpointConnectionError(endpoint_url=name)
            self._turn = False
            fault = self._fault
        if fault == "before":
            raise EndpointConnectionError(endpoint_url=name)
        answer = work()
        if fault == "after":
            raise EndpointConnectionError(endpoint_url=name)
        return answer

    def _go_on(self) -> None:
        """Wait until it stands still again. Raises what the worker has failed with."""
        self._changed.notify_all()
        self._changed.wait_for(lambda: self.waits or self.idle or self._failed)
        if self._failed:
            raise self._failed

    def _live(self) -> None:
        try:
            while True:
                with self._changed:
                    self.idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._orders or self.dead)
                    if self.dead:
                        return
                    self.idle, most = False, self._orders.popleft()
                self._work(most)
        except KilledError:
            return
        except Exception as error:
            with self._changed:
                self._failed = error
                self._changed.notify_all()

    def _work(self, most: int) -> None:
        try:
            messages = self._worker.queue.receive(most, wait=0)
        except aws.AwsError:
            return
        for message in messages:
            self._worker.take(message)
        while not self._worker.in_flight.empty:
            if not self._tasks.do():
                self._worker.work(0)


ACTORS: dict[Thread, Actor] = {}


def take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all workers of this process make their calls to AWS in turns."""
    monkeypatch.setattr(s3, "client", lambda: ACTORS[current_thread()].s3)
    monkeypatch.setattr(results, "ThreadPoolExecutor", Inline)
    monkeypatch.setattr(
        queues, "start", lambda _: None
    )  # the heartbeat: visibility expires when a test says so
