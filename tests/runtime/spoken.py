"""Segments with words, as decoders produce them and worse, for the tests of subtitles."""

# ruff: noqa: RUF001  full-width punctuation is meant

from hypothesis import strategies as st

from preheat.transcript import Segment, Word

# Words as Whisper's tokenizers cut them: most with a space in front, punctuation and scripts without.
TEXTS = st.sampled_from(
    [
        *(
            " a",
            " one",
            " two",
            " railways",
            " Manchester",
            " end.",
            " what?",
            " so,",
            " Dr.",
            "n't",
            "-known",
        ),
        *("%", " e.g.", " —", " !", " «", " »", "...", " 3.5", " “Yes.”", "\u00bf", " R&D", " <b>", "&amp;"),
        *("今天", "我", "们", "，", "。", "「", "」", "ちょっと", "っ", "ー", "ก", "เ", "่", "มา", " ใน"),
        *("한국어", " 말", " مرحبا", " بالعالم؟", " שלום", " e\u0301", "\u0301", "\u200b", " \u200f"),
        *(" x-->y", " -->", " 00:01 ", "1", "WEBVTT", " NOTE", "", " ", "\n", "\x00", "a\tb", "\u3000"),
        *(" two words", "tail ", "\u00a0nbsp", " 👩\u200d👩\u200d👧"),
        " Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "讨论的是中国北方铁路的历史正如你们许多人所知道的它始于少数几条煤矿线路",
    ]
)
ORDINARY = st.sampled_from([" a", " one", " two", " railways", " Manchester", " end.", " so,", " What"])
HUNDREDTHS = st.sampled_from([0, 2, 5, 10, 20, 30, 60])


def segment(
    words: list[Word] | None, text: str | None = None, start: float | None = None, end: float | None = None
) -> Segment:
    """A segment with the times and text of its words, unless others are given."""
    start = start if start is not None else words[0].start if words else 0.0
    end = end if end is not None else words[-1].end if words else 0.0
    said = "".join(word.word for word in words or [])
    return Segment(0, start, end, said if text is None else text, [], 0.0, -0.1, 1.0, 0.0, words)


def speech(text: str, pace: float = 0.06, start: float = 0.0, pause: float = 0.6) -> list[Word]:
    """The words of a text, said one after the other, `pace` s a letter, with pauses after sentences."""
    words = []
    for word in text.split():
        end = start + pace * len(word)
        words.append(Word(f" {word}", round(start, 2), round(end, 2), 1.0))
        start = end + (pause if word[-1] in ".?!" else 0.0)
    return words


@st.composite
def orderly(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> list[Segment]:
    """Segments as times.settled leaves them: in order, every word 0.02 s or longer."""
    at, segments = draw(st.sampled_from([0, 0, 400_000_00])), []
    for _ in range(draw(st.integers(0, 3))):
        words = []
        for _ in range(draw(st.integers(1, 20))):
            start = at + draw(st.sampled_from([0, 0, 0, 3, 7, 8, 9, 40, 150, 400]))
            at = start + 2 + draw(HUNDREDTHS) + draw(st.sampled_from([0] * 20 + [900]))
            words.append(Word(draw(texts), start / 100, at / 100, 0.5))
        segments.append(segment(words))
    return segments


@st.composite
def unruly(draw: st.DrawFn) -> list[Segment]:
    """Segments of any kind: overlapping, empty, without words, or with other words than their text has."""
    times = st.one_of(st.sampled_from([0.0, 1.0, 1.01, 400_000.0]), st.floats(0, 60))
    words = st.lists(st.builds(Word, TEXTS, times, times, st.just(0.5)), max_size=12)
    texts = st.lists(TEXTS, max_size=30).map("".join)
    segments = st.one_of(
        st.builds(segment, words), st.builds(segment, st.none() | words, texts, times, times)
    )
    return draw(st.lists(segments, max_size=6))
