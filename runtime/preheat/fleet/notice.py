"""Asks, every few seconds, whether the instance is about to end, and says so to the worker."""

import json
import time
from collections.abc import Callable
from threading import Condition

from preheat.fleet import policy
from preheat.fleet.events import moment
from preheat.fleet.metadata import Metadata, MetadataError
from preheat.threads import start
from preheat.timing import warn

EVERY = 5.0  # s


class Notice:
    """What is known about the end of the instance, or of this process."""

    def __init__(self, metadata: Metadata, say: Callable[[str], None]) -> None:
        """Look once, and then in a thread; `say` reports each change in a line."""
        self._metadata, self._say = metadata, say
        self._changed = Condition()
        self._view = policy.View()
        self._asked: float | None = None
        self._warned = False
        self._look()
        start(self._watch)

    @property
    def takes(self) -> bool:
        """Whether the worker takes new messages."""
        with self._changed:
            return self._asked is None and policy.takes(self._view)

    @property
    def deadline(self) -> float | None:
        """By when the worker has to end, in seconds since 1970; None if it may stay."""
        with self._changed:
            known = [when for when in (self._asked, self._view.ends) if when is not None]
            return min(known, default=None)

    @property
    def ends(self) -> bool:
        """Whether the instance is about to end, and not only this process."""
        with self._changed:
            return self._view.ends is not None

    @property
    def rebalance(self) -> bool:
        """Whether EC2 recommends to replace the instance, while it is in service."""
        with self._changed:
            return self._view.rebalance and self._view.state == policy.IN_SERVICE

    def leave(self, within: float) -> None:
        """Have the worker end within so many seconds. Called by the handler of a signal."""
        self._asked = time.time() + within

    def wait(self, seconds: float) -> None:
        """Wait for a change, at most so long."""
        with self._changed:
            self._changed.wait(seconds)

    def _watch(self) -> None:
        while True:
            time.sleep(EVERY)
            self._look()

    def _look(self) -> None:
        try:
            view = policy.seen(*self._read(), before=self._view, now=time.time())
        except (MetadataError, ValueError, AttributeError) as error:  # or an answer that means nothing
            if not self._warned:
                warn(f"no notice of the instance's end will be seen: {error}")
            self._warned = True
            return
        self._warned = False
        with self._changed:
            changed, self._view = view != self._view, view
            self._changed.notify_all()
        if changed:
            self._say(str(view))

    def _read(self) -> tuple[float | None, bool, str]:
        """When a spot instance ends, whether a rebalance is recommended, and the lifecycle state."""
        action = self._metadata.get("meta-data/spot/instance-action")
        ends = moment(json.loads(action).get("time")) if action else None
        rebalance = self._metadata.get("meta-data/events/recommendations/rebalance") is not None
        return ends, rebalance, self._metadata.get("meta-data/autoscaling/target-lifecycle-state") or ""
