"""Times as whoever uses them expects: in order, not empty, and within the recording."""

from dataclasses import replace
from itertools import chain
from math import floor

from transcript import Segment

SHORTEST = 0.02  # s; Whisper's own timestamps are no finer

Span = tuple[float, float]  # start and end, s


def settled(segments: list[Segment], end: float) -> list[Segment]:
    """The segments of a recording that ends at `end` s, in order, and their words in order in them.

    Windows are decoded side by side, and the rest of one again: so where one says that a word ends, the next
    may have said that another has begun.
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
    """Spans none of which begins before the one before it ends, each SHORTEST or longer, up to `end` s.

    In hundredths of a second, and as near to what they were as can be: where two overlap, the first one ends
    sooner. Where there are more than fit, they share what there is.
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
