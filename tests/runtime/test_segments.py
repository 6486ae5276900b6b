"""segments.py: where the segments of a window begin and end, and what they leave to the next."""

import pytest
import segments
from decoding import Result
from transcript import Segment
from vocabularies import encode, metadata
from vocabulary import Vocabulary

WINDOW = 3000  # frames
SEEK = 10_000  # frames: the window is at 100 s


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(metadata())


def whole(vocabulary: Vocabulary, *parts: float | str, length: int = WINDOW) -> tuple[list[Segment], int]:
    """The segments of a window, and what it settles."""
    result = Result(
        encode(vocabulary, parts),
        avg_logprob=-0.5,
        no_speech_prob=0.1,
        temperature=0.4,
        compression_ratio=1.3,
    )
    return segments.cut(vocabulary, result, seek=SEEK, length=length)


Found = tuple[list[tuple[float, float, str]], int]


def cut(vocabulary: Vocabulary, *parts: float | str, length: int = WINDOW) -> Found:
    """(start, end, words) of each segment in a window, and what it settles."""
    found, settled = whole(vocabulary, *parts, length=length)
    return [(s.start, s.end, s.text) for s in found], settled


def test_segments_end_where_two_timestamps_meet(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.5, "alpha", 2.0, 3.0, "bravo", 4.5, 29.0)
    assert found == [(100.5, 102.0, " alpha"), (103.0, 104.5, " bravo")]
    assert settled == 450  # what begins at 29 s is left to the next window


def test_one_timestamp_at_the_end_settles_the_window(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.5, "alpha", 2.0, 3.0, "bravo", 4.5)
    assert found == [(100.5, 102.0, " alpha"), (103.0, 104.5, " bravo")]
    assert settled == WINDOW


def test_an_unfinished_segment_is_left_to_the_next_window(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.0, "alpha", 2.0, 2.2, "bravo")
    assert found == [(100.0, 102.0, " alpha")]
    assert settled == 200


def test_a_window_of_one_segment_is_settled(vocabulary: Vocabulary) -> None:
    assert cut(vocabulary, 1.0, "alpha") == ([(101.0, 130.0, " alpha")], WINDOW)
    assert cut(vocabulary, 1.0, "alpha", 3.0) == ([(101.0, 103.0, " alpha")], WINDOW)
    assert cut(vocabulary, "alpha", "nine") == ([(100.0, 130.0, " alpha nine")], WINDOW)
    assert cut(vocabulary, 1.0) == ([], WINDOW)
    assert cut(vocabulary) == ([], WINDOW)


def test_no_segment_ends_after_the_recording(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.0, "alpha", 2.0, 2.0, "bravo", 4.0, length=300)
    assert found == [(100.0, 102.0, " alpha"), (102.0, 103.0, " bravo")]
    assert settled == 300
    assert cut(vocabulary, 1.0, "alpha", length=250) == ([(101.0, 102.5, " alpha")], 250)
    assert cut(vocabulary, 4.0, "alpha", 5.0, length=300) == ([(103.0, 103.0, " alpha")], 300)


def test_a_segment_without_words_is_none(vocabulary: Vocabulary) -> None:
    found, settled = cut(vocabulary, 0.0, "alpha", 2.0, 2.0, "", 4.0, 5.0, "bravo", 6.0)
    assert found == [(100.0, 102.0, " alpha"), (105.0, 106.0, " bravo")]
    assert settled == WINDOW
    assert cut(vocabulary, 0.0, "alpha", 2.0, 2.0, "", 4.0, 4.0)[1] == 400


def test_segments_know_their_window_and_their_tokens(vocabulary: Vocabulary) -> None:
    found, _ = whole(vocabulary, 0.5, "alpha nine", 2.0, 3.0, "bravo", 4.5)
    assert [segment.tokens for segment in found] == [
        encode(vocabulary, [0.5, "alpha nine", 2.0]),
        encode(vocabulary, [3.0, "bravo", 4.5]),
    ]
    for segment in found:
        assert segment.seek == SEEK
        assert (segment.temperature, segment.compression_ratio) == (0.4, 1.3)
        assert (segment.avg_logprob, segment.no_speech_prob) == (-0.5, 0.1)
        assert segment.words is None
