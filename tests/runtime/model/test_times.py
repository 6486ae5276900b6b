"""times.py: times in order, of non-zero length, within the recording, and otherwise unchanged."""

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from preheat.model.times import in_order, settled
from preheat.transcript import Segment, Word

TIMES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 30.0]), st.floats(-1, 40))


@given(st.lists(st.tuples(TIMES, TIMES), max_size=20), st.sampled_from([0.02, 0.3, 5.0, 30.004]))
def test_in_order_apart_and_within(spans: list[tuple[float, float]], end: float) -> None:
    found = in_order(spans, end)
    assert len(found) == len(spans)
    assert all(first[1] <= second[0] + 1e-9 for first, second in pairwise(found))
    assert all(-1e-9 <= start <= stop <= end + 1e-9 for start, stop in found)
    if len(spans) * 0.02 <= end:
        assert all(stop - start >= 0.02 - 1e-9 for start, stop in found)


@given(st.lists(st.integers(2, 500), max_size=20))
def test_what_is_right_stays(lengths: list[int]) -> None:
    at, spans = 0, []
    for length in lengths:
        spans.append((at / 100, (at + length) / 100))
        at += length
    assert in_order(spans, at / 100 + 1) == spans


def test_of_two_that_overlap_the_first_ends_sooner() -> None:
    spans = [(0.0, 1.0), (0.9, 1.0), (0.95, 30.0), (25.0, 26.0), (25.0, 25.0), (40.0, 41.0)]
    wanted = [(0.0, 0.9), (0.9, 0.95), (0.95, 25.0), (25.0, 25.02), (25.02, 25.04), (29.98, 30.0)]
    assert in_order(spans, 30.007) == wanted


def segment(start: float, end: float, *words: tuple[float, float]) -> Segment:
    said = [Word(f" {i}", *times, 0.5) for i, times in enumerate(words)] if words else None
    return Segment(0, start, end, "text", [1], 0.0, -0.1, 1.0, 0.0, said)


def test_segments_begin_and_end_with_their_words() -> None:
    """The rest of a window is decoded again, and may say that its first word began before the last ended."""
    found = settled(
        [segment(0, 2, (0.1, 1.0), (1.0, 1.0)), segment(2, 3), segment(0.9, 5, (0.9, 2.5), (2.5, 4.0))], 3.9
    )
    words = [(word.start, word.end) for word in chain.from_iterable(s.words or [] for s in found)]
    assert words == [(0.1, 1.0), (1.0, 1.02), (2.02, 2.5), (2.5, 3.9)]
    assert [(s.start, s.end) for s in found] == [(0.1, 1.02), (2.0, 2.02), (2.02, 3.9)]
    assert [s.text for s in found] == ["text"] * 3 and found[1].words is None
    assert settled([], 1.0) == []


def test_words_without_any() -> None:
    (found,) = settled([Segment(0, 1, 2, "", [], 0.0, 0.0, 1.0, 0.0, [])], 5.0)
    assert (found.start, found.end) == (1, 2) and found.words == []
