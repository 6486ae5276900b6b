"""cues.py: broadcasters' rules for subtitles hold for any speech."""

# ruff: noqa: RUF001  full-width punctuation is meant

import math
from itertools import pairwise
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import typography
from preheat.cues import Cue, cues
from preheat.transcript import Segment, Word
from tests.runtime import spoken

ANY = st.one_of(spoken.orderly(), spoken.orderly(spoken.ORDINARY), spoken.unruly())


def shown(found: list[Cue]) -> list[str]:
    return [cue.text for cue in found]


def letters(text: str) -> str:
    """Text without spaces, line breaks and invisible characters."""
    return "".join(c for c in text if not c.isspace() and category(c) != "Cc")


@given(ANY)
def test_no_text_is_lost_and_order_is_kept(segments: list[Segment]) -> None:
    found = "".join(shown(cues(segments)))
    assert letters(found) == letters("".join(segment.text for segment in segments))


@given(ANY)
def test_cues_are_in_order_and_seen(segments: list[Segment]) -> None:
    found = cues(segments)
    assert all(first.end <= second.start for first, second in pairwise(found))
    assert all(cue.end - cue.start > 0.0199 and cue.start >= 0 for cue in found)
    assert all(line.strip() for cue in found for line in cue.text.split("\n"))


def word_alone(line: str) -> bool:
    """Whether a line has no possible break inside."""
    return not any(
        typography.may_part(line[:i].rstrip(), line[i:].lstrip(), space=" " in line[i - 1 : i + 1])
        for i in range(1, len(line))
    )


@given(ANY)
def test_limits_are_held(segments: list[Segment]) -> None:
    for cue in cues(segments):
        assert cue.end - cue.start < 7.0001
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(typography.width(line) <= 42 or word_alone(line) for line in lines)


@given(ANY)
def test_cues_stay_for_as_long_as_it_takes_to_read_them(segments: list[Segment]) -> None:
    """Unless the next one follows earlier; and no gap is so short that subtitles flicker."""
    found = cues(segments)
    starts = [cue.start for cue in found[1:]] + [math.inf]
    for cue, following in zip(found, starts, strict=False):
        shown, gap = cue.end - cue.start, following - cue.end
        columns = sum(map(typography.width, cue.text.split("\n")))
        assert columns <= 20 * shown + 1e-6 or gap == 0 or columns > 20 * 7
        assert shown >= 0.9999 or gap == 0
        assert gap == 0 or gap > 0.0799


@given(spoken.orderly(spoken.ORDINARY))
def test_cues_begin_and_end_with_their_words(segments: list[Segment]) -> None:
    """They may stay longer, but at most 7 s in all."""
    spoken_at = {round(word.start, 3) for segment in segments for word in segment.words or []}
    assert {round(cue.start, 3) for cue in cues(segments)} <= spoken_at


def lines_of(text: str, **how: float) -> list[str]:
    """The texts of the cues for a text said in one segment."""
    return shown(cues([spoken.segment(spoken.speech(text, **how))]))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "Good evening, and welcome to the programme. Tonight we talk about railways.",
            ["Good evening,\nand welcome to the programme.", "Tonight we talk about railways."],
        ),
        (
            "Yes. I know. But wait, what about the canals?",
            ["Yes. I know.", "But wait, what about the canals?"],
        ),
        (
            "I met Dr. Smith and J. Jones, who had paid 3.5 million e.g. for it.",
            ["I met Dr. Smith and J. Jones,\nwho had paid 3.5 million e.g. for it."],
        ),
        (
            "He said “It is over.” Then he left the room and nobody has ever seen him again.",
            ["He said “It is over.”", "Then he left the room and\nnobody has ever seen him again."],
        ),
    ],
)
def test_sentences_and_clauses(text: str, wanted: list[str]) -> None:
    assert lines_of(text, pause=0.2) == wanted


def test_a_long_sentence_is_halved() -> None:
    """Its last word is not left alone."""
    found = lines_of("and " * 22 + "so", pause=0.0)
    assert [len(text) for text in found] == [43, 46]


def test_a_pause_parts_what_no_punctuation_does() -> None:
    words = spoken.speech("alpha bravo charlie") + spoken.speech("delta echo", start=3.5)
    assert shown(cues([spoken.segment(words)])) == ["alpha bravo charlie", "delta echo"]
    words = spoken.speech("alpha bravo charlie") + spoken.speech("delta echo", start=1.3)
    assert shown(cues([spoken.segment(words)])) == ["alpha bravo charlie delta echo"]


def test_what_is_said_in_two_segments_is_not_run_together() -> None:
    first, second = [Word("one", 0.0, 0.3, 1.0)], [Word("two", 0.3, 0.6, 1.0)]
    assert shown(cues([spoken.segment(first), spoken.segment(second)])) == ["one two"]
    first, second = [Word("\u4eca\u5929", 0.0, 0.3, 1.0)], [Word("\u6211", 0.3, 0.6, 1.0)]
    assert shown(cues([spoken.segment(first), spoken.segment(second)])) == ["\u4eca\u5929\u6211"]


def test_without_punctuation_a_segment_ends_a_cue() -> None:
    first = spoken.speech("alpha bravo charlie delta")
    second = spoken.speech(
        "echo foxtrot golf hotel india juliett kilo lima mike november", start=first[-1].end
    )
    found = shown(cues([spoken.segment(first), spoken.segment(second)]))
    assert found[0] == "alpha bravo charlie delta"
    found = shown(cues([spoken.segment([*first, *second])]))
    assert len(found) == 2 and found[0] == "alpha bravo charlie\ndelta echo foxtrot golf"


def test_spaces_may_stand_behind_words() -> None:
    words = [Word("one ", 0.0, 0.3, 1.0), Word("two", 0.3, 0.6, 1.0)]
    assert shown(cues([spoken.segment(words)])) == ["one two"]


def test_fast_speech_is_shown_on_into_the_pause() -> None:
    """60 letters in 1.2 s take 3 s to read."""
    text = "x" * 29 + " " + "y" * 30
    (cue,) = cues([spoken.segment(spoken.speech(text, pace=0.02))])
    assert (cue.start, cue.end) == (0.0, 3.0)
    following = spoken.segment(spoken.speech("and " * 20, start=2.0))
    cue, *_ = cues([spoken.segment(spoken.speech(text, pace=0.02)), following])
    assert cue.end == 2.0


def test_fast_speech_shares_the_time_of_slow_speech() -> None:
    """Even though a sentence ends between them."""
    fast = spoken.speech("He said all of this far faster than anyone can read.", pace=0.025)
    slow = spoken.speech("So it is.", pace=0.3, start=fast[-1].end)
    assert len(cues([spoken.segment([*fast, *slow])])) == 1
    steady = spoken.speech("He said all of this far faster than anyone can read.")
    slow = spoken.speech("So it is.", pace=0.3, start=steady[-1].end)
    assert len(cues([spoken.segment([*steady, *slow])])) == 2


@pytest.mark.parametrize(("gap", "end"), [(0.04, 3.04), (0.07, 3.07), (0.08, 3.0), (0.2, 3.0)])
def test_short_gaps_are_closed(gap: float, end: float) -> None:
    first = [Word(" " + "long " * 9 + "end.", 0.0, 3.0, 1.0)]
    second = [Word(" Then", 3.0 + gap, 5.0, 1.0)]
    assert cues([spoken.segment(first), spoken.segment(second)])[0].end == end


def test_a_gap_that_cannot_be_closed_is_made_longer() -> None:
    """A word of 7 s, another right after it."""
    first, second = [Word(" Ooooh.", 0.0, 7.0, 1.0)], [Word(" Then", 7.03, 8.0, 1.0)]
    assert cues([spoken.segment(first), spoken.segment(second)])[0].end == 6.95


def test_a_word_for_minutes() -> None:
    """Its end is usually an error of the decoder."""
    (cue,) = cues([spoken.segment([Word(" Hello.", 1.0, 200.0, 1.0)])])
    assert (cue.start, cue.end) == (1.0, 8.0)


def test_text_without_words_is_spread_over_its_segment() -> None:
    text = " One two three. " + "Four five six seven eight nine ten. " * 3
    for words in (None, [], [Word(" One", 0.0, 1.0, 1.0)]):
        found = cues([spoken.segment(words, text, 0.0, 12.2)])
        assert letters("".join(shown(found))) == letters(text)
        assert len(found) == 4 and found[0].start == 0 and found[-1].end == pytest.approx(12.2, abs=0.3)


CHINESE = "今天我们要讨论的是中国北方铁路的历史，正如你们许多人所知道的，它始于少数几条煤矿线路。"


def test_chinese_characters_take_two_columns() -> None:
    """And read at half the speed: 10 a second."""
    found = cues([spoken.segment(None, CHINESE, 0.0, 14.0)])
    assert "".join(shown(found)).replace("\n", "") == CHINESE
    assert all(len(line) <= 21 for cue in found for line in cue.text.split("\n"))
    assert [text[-1] for text in shown(found)] == ["，", "，", "。"]
    (cue,) = cues([spoken.segment(None, "我" * 20, 0.0, 1.0)])
    assert cue.end == 2.0


@pytest.mark.parametrize(
    "text",
    [
        "ちょっと待ってください" * 6,  # no line begins with a small kana
        "「東京」は、「日本」の首都です。" * 5,  # nor with closing, nor ends with opening punctuation
        "เขาแก้ไขไม่ได้" * 8,  # no break before a mark or after a leading vowel
    ],
)
def test_lines_of_scripts_without_spaces(text: str) -> None:
    found = cues([spoken.segment(None, text, 0.0, 30.0)])
    lines = [line for cue in found for line in cue.text.split("\n")]
    assert len(lines) >= 3 and "".join(lines) == text
    for line in lines:
        assert category(line[0]) not in ("Mn", "Pe", "Po", "Lm") and line[0] not in "ょっ"
        assert category(line[-1]) != "Ps" and line[-1] not in "เแโใไ"


def test_no_line_ends_with_an_opening_bracket() -> None:
    (cue,) = cues([spoken.segment(None, "我" * 19 + "「" + "你" * 20, 0.0, 6.9)])
    assert cue.text == "我" * 19 + "\n「" + "你" * 20


def test_words_of_scripts_without_spaces_stay_whole() -> None:
    """Words as the decoder has them, if they fit."""
    words = [Word("ありがとう", 0.4 * i, 0.4 * (i + 1), 1.0) for i in range(13)]
    found = cues([spoken.segment(words)])
    lines = [line for cue in found for line in cue.text.split("\n")]
    assert len(lines) > 3 and all(line == "ありがとう" * (len(line) // 5) for line in lines)


def test_french_punctuation_is_not_left_to_the_next_line() -> None:
    text = "Il répondit : « Mais non, ce n’est pas vrai du tout, mon ami ! »"
    for cue in cues([spoken.segment(spoken.speech(text, pace=0.09))]):
        assert all(line[0] not in ":!»" and line[-1] != "«" for line in cue.text.split("\n"))


def test_control_characters_are_left_out() -> None:
    assert shown(cues([spoken.segment(spoken.speech("a\x00b \x07 c\x7f"))])) == ["ab c"]


def test_nothing_was_said() -> None:
    assert cues([]) == []
    assert cues([spoken.segment([], "", 1.0, 2.0), spoken.segment(None, " \n", 2.0, 3.0)]) == []
