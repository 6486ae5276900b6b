"""Sends lines to CloudWatch Logs in the background. Where that fails, lines are dropped and counted."""

import time
from collections import deque
from operator import itemgetter
from threading import Condition
from typing import Any

from preheat.places import aws
from preheat.threads import start
from preheat.timing import warn

MOST = 1000  # lines that wait
BATCH = 100  # lines in a request
EVERY = 5.0  # s between requests
STREAM_MISSING = "ResourceNotFoundException"


class Sender:
    """A stream of a log group; it is created with the first lines."""

    def __init__(self, client: Any, group: str, stream: str) -> None:
        self._client, self._names = client, {"logGroupName": group, "logStreamName": stream}
        self._lines: deque[tuple[int, str]] = deque()
        self._changed = Condition()
        self._lost, self._flushing, self._idle = 0, False, True
        start(self._work)

    def add(self, line: str) -> None:
        """Send a line, soon."""
        with self._changed:
            if len(self._lines) >= MOST:
                self._lines.popleft()
                self._lost += 1
            self._lines.append((round(time.time() * 1000), line))

    def flush(self, seconds: float) -> None:
        """Send now what waits; gives up after so many seconds."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lines and self._idle, seconds)
            self._flushing = False
            if lost := self._lost + len(self._lines):
                warn(f"CloudWatch Logs did not get {lost} job records; they are in the journal")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._flushing, EVERY)
                some = [self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]
                self._idle = not some
                self._changed.notify_all()
            if some:
                self._send(some)
                with self._changed:
                    self._idle = True
                    self._changed.notify_all()
            elif self._flushing:
                time.sleep(0.1)

    def _send(self, some: list[tuple[int, str]]) -> None:
        try:
            try:
                self._put(some)
            except aws.AwsError as error:
                if error.code != STREAM_MISSING:
                    raise
                with aws.errors("CloudWatch Logs CreateLogStream"):
                    self._client.create_log_stream(**self._names)
                self._put(some)
        except aws.AwsError as error:
            with self._changed:
                self._lines.extendleft(reversed(some))  # they are tried again
                while len(self._lines) > MOST:
                    self._lines.popleft()
                    self._lost += 1
            warn(f"{error}; {len(self._lines)} job records wait, {self._lost} are lost to it")
            time.sleep(EVERY)

    def _put(self, some: list[tuple[int, str]]) -> None:
        ordered = sorted(some, key=itemgetter(0))  # as it must be, even if the clock was set back meanwhile
        with aws.errors("CloudWatch Logs PutLogEvents"):
            self._client.put_log_events(
                **self._names, logEvents=[{"timestamp": when, "message": line} for when, line in ordered]
            )
