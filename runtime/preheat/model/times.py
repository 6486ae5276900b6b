"""Makes times consistent: in order, of non-zero length, and within the recording."""

from dataclasses import replace
from itertools import chain
from math import floor

from preheat.audio.constants import TIME_PRECISION
from preheat.transcript import Segment

SHORTEST = TIME_PRECISION  # s; the resolution of Whisper's timestamps

Span = tuple[float, float]  # start and end, s


def settled(segments: list[Segment], end: float) -> list[Segment]:
    """The segments of a recording that ends at `end` s, with the times of segments and words in order.

    They may overlap before: windows are decoded independently, and the rest of a window again, so the last
    word of one may end after the first word of the next begins.
    """
    spans = [[(word.start, word.end) for word in s.words or []] or [(s.start, s.end)] for s in segments]
    placed = iter(in_order(list(chain.from_iterable(spans)), end))
    done = []
    for segment, count in zip(segments, map(len, spans), strict=True):
        own = [next(placed) for _ in range(count)]
        words = segment.words and [
            replace(word, start=start, end=end) for word, (start, end) in zip(segment.words, own, strict=True)
        ]
        done.append(replace(segment, start=own[0][0], end=own[-1][1], words=words))
    return done


def in_order(spans: list[Span], end: float) -> list[Span]:
    """Spans moved so that none overlap, each has at least SHORTEST, and none goes beyond `end` s.

    Times are rounded to hundredths of a second and changed as little as possible: of two overlapping spans
    the first is shortened. If there are more spans than fit, they share the time evenly.
    """
    last = floor(100 * end)
    shortest = min(round(100 * SHORTEST), last / max(len(spans), 1))
    starts: list[float] = []
    for start, _ in spans:
        starts.append(max(round(100 * start), starts[-1] + shortest if starts else 0))
    limit: float = last
    for i in reversed(range(len(starts))):
        limit = starts[i] = min(starts[i], limit - shortest)
    ends = [*starts[1:], last][: len(starts)]
    return [
        (start / 100, min(max(round(100 * stop), start + shortest), following) / 100)
        for start, (_, stop), following in zip(starts, spans, ends, strict=True)
    ]
