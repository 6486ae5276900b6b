"""The decisions of a worker, as pure functions of what is known; bench/fleet runs them, too."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

POLL = 20  # s; SQS waits no longer
MOST = 10  # messages in flight: enough to fetch ahead, and others may have the rest
BATCH = 10  # messages that SQS gives at a time
AUDIO = 7200.0  # s of audio in flight
BYTES = 4 << 30  # of recordings in flight
SUSPECT = 3  # from this attempt on, a message may be one that kills workers
LONGEST_PAUSE = 900.0  # s, of a message
LONGEST_PAUSE_OF_QUEUE = 30.0  # s
AT_RISK = 30.0  # s without work, after which an instance ends that EC2 may take away
FAULTS = 3  # of ours in a row, after which a worker is taken for broken
HOOK = 120.0  # s that the group waits for an ending instance
IN_SERVICE = "InService"
TERMINATED = "Terminated"  # the end of a lifecycle state's name
MARGIN = 15.0  # s before the end, when the rest is handed back


def idle_end(idle_s: float, limit_s: float, empty_poll: bool) -> bool:
    """Whether a worker without work for so long ends its instance: only after a poll that found nothing."""
    return empty_poll and idle_s >= limit_s


def poll(idle_s: float, limit_s: float) -> int:
    """Seconds that SQS is to wait for messages: at most until a worker idle for so long would end."""
    return max(1, min(POLL, math.ceil(limit_s - idle_s)))


def room(messages: int, audio_s: float, size: int) -> int:
    """How many more messages to ask for, with so many messages, seconds of audio and bytes in flight."""
    if audio_s >= AUDIO or size >= BYTES:
        return 0
    return max(0, min(BATCH, MOST - messages))


def fits(size: int, held: int) -> bool:
    """Whether a recording of so many bytes may be fetched now; a large one only when it is alone."""
    return held == 0 or held + size <= BYTES


def pause(attempt: int) -> float:
    """Seconds until a message is tried again that has failed for the moment at its `attempt`, from 1 on."""
    return min(20.0 * 3.0 ** (attempt - 1), LONGEST_PAUSE)


def pause_of_queue(failures: int) -> float:
    """Seconds until the queue is asked again, after so many failures in a row; of it, or of its jobs."""
    return min(2.0**failures, LONGEST_PAUSE_OF_QUEUE)


@dataclass(frozen=True)
class View:
    """What the metadata say of the instance's future."""

    state: str = ""  # that Auto Scaling wants it to be in; "" outside a group
    rebalance: bool = False  # whether its spot capacity is at risk
    ends: float | None = None  # when it ends, in seconds since 1970

    def __str__(self) -> str:
        known = [f"wanted {self.state}" if self.state else "", "rebalance recommended" * self.rebalance]
        if self.ends is not None:
            known.append(f"ends at {datetime.fromtimestamp(self.ends, UTC):%H:%M:%S}")
        return f"instance: {', '.join(filter(None, known)) or 'stays'}"


def seen(action: float | None, rebalance: bool, state: str, before: View, now: float) -> View:
    """What follows from the time of a spot instance's end, if any, and the lifecycle state wanted.

    An end that has been announced does not move away.
    """
    ends = [when for when in (before.ends, action) if when is not None]
    if state.endswith(TERMINATED):
        ends.append(now + HOOK)
    return View(state, rebalance, min(ends, default=None))


def takes(view: View) -> bool:
    """Whether a worker takes new messages: only in service, and while nothing is said of its end.

    A rebalance recommendation does not say that it ends: if it took nothing then, no recording might ever be
    transcribed where all capacity is at risk.
    """
    return view.ends is None and view.state in ("", IN_SERVICE)
