"""Subtitles by broadcasters' rules: speech cut into cues that can be read while they are shown.

Limits say which cues are allowed, and costs which of all possible cuts is best: the one with the least total
cost, found by dynamic programming. Cues should end at sentence ends or pauses, and not go by too fast or be
shown too briefly. Text that does not fit into one cue should be halved rather than leave its last word alone.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, inf
from typing import NamedTuple

from preheat.transcript import Segment, Word
from preheat.typography import chunks, ends_clause, ends_sentence, may_part, width

COLUMNS = 42  # in a line; a cue has up to two lines
LONGEST = 7000  # ms
SHORTEST = 1000  # ms; no cue is shown for less if there is time before the next one
SPEED = 20  # columns a second at most, if there is time before the next cue
GAP = 80  # ms, two frames at 25 a second; with a shorter gap between cues subtitles flicker
LEAST = 20  # ms; the resolution of Whisper's word times

# Costs. The unit is the cost of one more cue.
IN_WORD, IN_SENTENCE, AT_CLAUSE = 6.0, 3.0, 1.0  # of ending there; at a sentence end or pause it is 0
PAUSE = 300  # ms; a shorter silence is not a pause
OVER_SENTENCE = 1.5  # of a sentence end within the cue
OVER_PAUSE = 2.0  # of a pause within the cue, for each second beyond PAUSE
HASTE = 4.0  # of having to be read at twice SPEED
BLINK = 3.0  # of being shown for no time at all, instead of SHORTEST
FULL = 1.0  # of filling both lines
UNEVEN = 5.0  # columns of difference between two lines that outweigh 1 of cost in where the upper one ends


class Cue(NamedTuple):
    """A subtitle and when it is shown, in seconds of the recording."""

    start: float
    end: float
    text: str  # one or more lines
    voice: str | None = None  # the name of its channel, if there are several


@dataclass
class Piece:
    """Text that neither a line nor a cue may break, and when it is said: milliseconds of the recording."""

    text: str
    start: int
    end: int
    space: bool  # in front of it
    opens: bool  # a segment begins with it
    inner: bool  # it continues a word, in a script without spaces


def cues(segments: list[Segment], columns: int = COLUMNS) -> list[Cue]:
    """The cues for segments: in the same order, without overlap.

    No cue is shown longer than LONGEST or has more than two lines. No line has more than `columns`, unless it
    is a single word. No cue is faster than SPEED, unless the next one follows at once. Overlapping times in
    the segments are put in order.
    """
    passage = Passage(in_order(joined(pieces(segments))), columns)
    return [
        Cue(
            passage.pieces[part.start].start / 1000,
            passage.shown_until(part) / 1000,
            "\n".join(passage.text(line) for line in passage.lines(part)),
        )
        for part in passage.cut()
    ]


def pieces(segments: list[Segment]) -> Iterator[Piece]:
    """The words of segments, with their times as they are given."""
    for segment in segments:
        opens, space = True, False
        for word in timed(segment):
            parts = list(chunks(word.word))
            letter = 1000 * (word.end - word.start) / max(sum(len(text) for _, text in parts), 1)  # ms
            start = 1000 * word.start
            for i, (spaced, text) in enumerate(parts):
                end, space = start + letter * len(text), space or spaced
                yield Piece(text, round(start), round(end), space, opens, inner=i > 0 and not space)
                start, opens, space = end, False, False
            space = space or word.word[-1:].isspace()


def timed(segment: Segment) -> list[Word]:
    """A segment's words; its whole text as one word if they do not add up to it."""
    words = segment.words or []
    if "".join(word.word for word in words).split() == segment.text.split():
        return words
    return [Word(segment.text, segment.start, segment.end, 1.0)]


def joined(pieces: Iterator[Piece]) -> list[Piece]:
    """Pieces, with those merged between which no line may end."""
    done: list[Piece] = []
    for piece in pieces:
        before = done[-1].text if done else ""
        if piece.opens and before and not may_part(before, piece.text, space=piece.space):
            piece.space = True  # two segments are two words
        if not before or may_part(before, piece.text, space=piece.space):
            done.append(piece)
        else:
            done[-1].text += " " * piece.space + piece.text
            done[-1].end = piece.end
    return done


def in_order(pieces: list[Piece]) -> list[Piece]:
    """Pieces each of which begins LEAST or more after the one before it."""
    earliest = 0
    for piece in pieces:
        piece.start = max(piece.start, earliest)
        earliest = piece.start + LEAST
    return pieces


class Passage:
    """A sequence of pieces. A part of it, a cue or a line, is a range of indices."""

    def __init__(self, pieces: list[Piece], limit: int = COLUMNS) -> None:
        """`pieces` in order of time; `limit`: columns in a line."""
        self.pieces, self.limit = pieces, limit
        self.starts = [*(piece.start for piece in pieces), inf]  # ms
        self.columns = list(accumulate((width(p.text) + p.space for p in pieces), initial=0))
        self.endings = []  # by piece: the cost if a cue ends with it
        crossings = []  # and if the cue goes on after it
        for piece, following in pairwise(pieces):
            pause = max(following.start - piece.end - PAUSE, 0) / 1000
            ending = ends_sentence(piece.text, following.text)
            if ending or pause:
                self.endings.append(0.0)
            elif following.opens or ends_clause(piece.text):
                self.endings.append(AT_CLAUSE)
            else:
                self.endings.append(IN_WORD if following.inner else IN_SENTENCE)
            crossings.append(OVER_SENTENCE * ending + OVER_PAUSE * pause)
        self.endings.append(0.0)
        self.crossings = list(accumulate(crossings, initial=0.0))

    def text(self, part: range) -> str:
        """The text of a part, in one line."""
        return "".join(" " * self.pieces[i].space + self.pieces[i].text for i in part).removeprefix(" ")

    def width(self, part: range) -> int:
        """Columns of a part's text in one line."""
        return self.columns[part.stop] - self.columns[part.start] - self.pieces[part.start].space

    def line(self, start: int) -> range:
        """The longest line that begins with piece `start`; one piece at least."""
        limit = self.limit + self.columns[start] + self.pieces[start].space
        return range(start, max(bisect_right(self.columns, limit) - 1, start + 1))

    def shown_until(self, part: range) -> int:
        """When the cue of a part ends, in ms: if possible, not before it can be read."""
        start, following = self.starts[part.start], self.starts[part.stop]
        readable = start + max(ceil(1000 * self.width(part) / SPEED), SHORTEST)
        end = min(max(self.pieces[part.stop - 1].end, readable), start + LONGEST, following)
        if 0 < following - end < GAP:
            end = following if following - start <= LONGEST else following - GAP
        return int(end)

    def cut(self) -> list[range]:
        """The parts that make the cheapest cues."""
        least = [0.0] + [inf] * len(self.pieces)  # by number of pieces: the least cost of cues for them
        last = [range(0)] * len(least)  # and the last of these cues
        for start in range(len(self.pieces)):
            for stop in self.stops(start):
                cost = least[start] + self.cost(start, stop)
                if cost < least[stop]:
                    least[stop], last[stop] = cost, range(start, stop)
        parts = []
        stop = len(self.pieces)
        while stop:
            parts.append(last[stop])
            stop = last[stop].start
        return parts[::-1]

    def stops(self, start: int) -> Iterator[int]:
        """Where a cue from piece `start` may stop: after that piece, or later within the limits."""
        stop = start + 1
        yield stop
        second = self.line(start).stop
        limit = self.line(second).stop if second < len(self.pieces) else second
        latest = self.starts[start] + LONGEST
        while stop < limit and self.pieces[stop].end <= latest:
            stop += 1
            yield stop

    def cost(self, start: int, stop: int) -> float:
        """The cost of a cue from piece `start` to before piece `stop`."""
        columns = self.columns[stop] - self.columns[start]
        room = self.starts[stop] - self.starts[start]
        cost = 1 + self.endings[stop - 1] + self.crossings[stop - 1] - self.crossings[start]
        if room < SHORTEST:
            cost += BLINK * (1 - room / SHORTEST)
        if columns * 1000 > SPEED * room:
            cost += HASTE * (columns * 1000 / SPEED / room - 1)
        return cost + FULL * (columns / (2 * self.limit)) ** 2

    def lines(self, part: range) -> list[range]:
        """A cue's lines: one if it fits, else two of similar length, preferably broken after a clause."""
        if self.width(part) <= self.limit or len(part) == 1:
            return [part]
        pairs = [(range(part.start, at), range(at, part.stop)) for at in part[1:]]
        best = min((pair for pair in pairs if all(map(self.fits, pair))), key=self.unevenness)
        return list(best)

    def fits(self, line: range) -> bool:
        """Whether a line is within the limit, or a single piece."""
        return self.width(line) <= self.limit or len(line) == 1

    def unevenness(self, pair: tuple[range, range]) -> float:
        """How bad a line break is: the difference in length, plus the cost of where the upper line ends."""
        upper, lower = pair
        return abs(self.width(upper) - self.width(lower)) + UNEVEN * self.endings[upper.stop - 1]
