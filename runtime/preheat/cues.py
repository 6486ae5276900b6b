"""Subtitles as a broadcaster wants them: speech cut into cues that can be read while they are shown.

The limits say what a cue may be, and costs which of all possible cuts is the best: the one whose sum is least
(dynamic programming). Cues should end where sentences or pauses do, be neither hasty nor short, and what does
not fit into one should be halved rather than leave its last word alone.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, inf
from typing import NamedTuple

from preheat.transcript import Segment, Word
from preheat.typography import chunks, ends_clause, ends_sentence, may_part, width

COLUMNS = 42  # in a line, of which a cue has two
LONGEST = 7000  # ms
SHORTEST = 1000  # ms; where there is room, no cue is shown for less
SPEED = 20  # columns a second, at most, where there is room
GAP = 80  # ms, two frames of 25 a second; in a shorter one subtitles only flicker
LEAST = 20  # ms; what Whisper says of a word is no finer

# Costs: 1 is that of one cue more.
IN_WORD, IN_SENTENCE, AT_CLAUSE = 6.0, 3.0, 1.0  # to end there; with a sentence or before a pause nothing
PAUSE = 300  # ms
OVER_SENTENCE = 1.5  # to go on over the end of a sentence
OVER_PAUSE = 2.0  # to go on over a pause, for each second beyond PAUSE
HASTE = 4.0  # to be read at twice SPEED
BLINK = 3.0  # to be shown for no time at all, instead of SHORTEST
FULL = 1.0  # to fill both lines
UNEVEN = 5.0  # columns that lines may differ by, if they part where a cue ends for 1 less


class Cue(NamedTuple):
    """What is shown, and when: seconds of the recording."""

    start: float
    end: float
    text: str  # one or more lines
    voice: str | None = None  # whose it is, if there are several


@dataclass
class Piece:
    """Text within which neither line nor cue ends, and when it is said: milliseconds of the recording."""

    text: str
    start: int
    end: int
    space: bool  # in front of it
    opens: bool  # a segment begins with it
    inner: bool  # a word that is not parted by spaces goes on with it


def cues(segments: list[Segment], columns: int = COLUMNS) -> list[Cue]:
    """What is said in segments, in cues in the same order that do not overlap.

    None is longer than LONGEST; none has more than two lines, nor a line more than `columns` unless it is a
    single word; and none goes faster than SPEED unless the next one follows at once. Times that overlap are
    put in order.
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
    """A segment's words; if they do not say all of its text, that as one word."""
    words = segment.words or []
    if "".join(word.word for word in words).split() == segment.text.split():
        return words
    return [Word(segment.text, segment.start, segment.end, 1.0)]


def joined(pieces: Iterator[Piece]) -> list[Piece]:
    """Pieces, with those put together that no line may end between."""
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
    """Pieces in a row. Parts of it, which may be cues or lines, are ranges of their numbers."""

    def __init__(self, pieces: list[Piece], limit: int = COLUMNS) -> None:
        """Of pieces in order of time; `limit`: columns in a line."""
        self.pieces, self.limit = pieces, limit
        self.starts = [*(piece.start for piece in pieces), inf]  # ms
        self.columns = list(accumulate((width(p.text) + p.space for p in pieces), initial=0))
        self.endings = []  # by piece: the cost of a cue that ends with it
        crossings = []  # and of one that goes on
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
        """As it is shown."""
        return "".join(" " * self.pieces[i].space + self.pieces[i].text for i in part).removeprefix(" ")

    def width(self, part: range) -> int:
        """Columns that its text takes in one line."""
        return self.columns[part.stop] - self.columns[part.start] - self.pieces[part.start].space

    def line(self, start: int) -> range:
        """The longest line that begins with a piece; one piece at least."""
        limit = self.limit + self.columns[start] + self.pieces[start].space
        return range(start, max(bisect_right(self.columns, limit) - 1, start + 1))

    def shown_until(self, part: range) -> int:
        """When the cue of a part ends, in ms: it stays for as long as it takes to read, if it can."""
        start, following = self.starts[part.start], self.starts[part.stop]
        readable = start + max(ceil(1000 * self.width(part) / SPEED), SHORTEST)
        end = min(max(self.pieces[part.stop - 1].end, readable), start + LONGEST, following)
        if 0 < following - end < GAP:
            end = following if following - start <= LONGEST else following - GAP
        return int(end)

    def cut(self) -> list[range]:
        """The best cues."""
        least = [0.0] + [inf] * len(self.pieces)  # by how many pieces are shown: the cost of their cues
        last = [range(0)] * len(least)  # and the last one of them
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
        """Where the cue that starts with a piece may stop: after that piece, or within the limits."""
        stop = start + 1
        yield stop
        second = self.line(start).stop
        limit = self.line(second).stop if second < len(self.pieces) else second
        latest = self.starts[start] + LONGEST
        while stop < limit and self.pieces[stop].end <= latest:
            stop += 1
            yield stop

    def cost(self, start: int, stop: int) -> float:
        """Of a cue."""
        columns = self.columns[stop] - self.columns[start]
        room = self.starts[stop] - self.starts[start]
        cost = 1 + self.endings[stop - 1] + self.crossings[stop - 1] - self.crossings[start]
        if room < SHORTEST:
            cost += BLINK * (1 - room / SHORTEST)
        if columns * 1000 > SPEED * room:
            cost += HASTE * (columns * 1000 / SPEED / room - 1)
        return cost + FULL * (columns / (2 * self.limit)) ** 2

    def lines(self, part: range) -> list[range]:
        """A cue's lines: where there are two, about as long, the upper one ending with a clause if it can."""
        if self.width(part) <= self.limit or len(part) == 1:
            return [part]
        pairs = [(range(part.start, at), range(at, part.stop)) for at in part[1:]]
        best = min((pair for pair in pairs if all(map(self.fits, pair))), key=self.unevenness)
        return list(best)

    def fits(self, line: range) -> bool:
        """Whether a line is not too long, or cannot be shorter."""
        return self.width(line) <= self.limit or len(line) == 1

    def unevenness(self, pair: tuple[range, range]) -> float:
        """How far from pleasing two lines are: in columns."""
        upper, lower = pair
        return abs(self.width(upper) - self.width(lower)) + UNEVEN * self.endings[upper.stop - 1]
