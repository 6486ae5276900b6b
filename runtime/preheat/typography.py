"""Text in lines: its width, where a line may break, and where sentences and clauses end."""

# ruff: noqa: RUF001  full-width punctuation is meant

import re
from collections.abc import Iterator
from unicodedata import category

# Scripts without spaces: Thai, Lao, Burmese, Khmer, Japanese, Chinese, and full-width forms.
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff"
)
WITHOUT_SPACES = re.compile(f"[{SPACELESS}]")
CHUNK = re.compile(r"(\s*)(\S+)")
CLUSTER = re.compile(f"[{SPACELESS}]|[^{SPACELESS}]+")
# Unicode categories: of marks and closing punctuation, and of opening punctuation.
NEVER_FIRST, NEVER_LAST = {"Mn", "Mc", "Me", "Cf", "Lm", "Pe", "Pf", "Po"}, {"Ps", "Pi"}
SMALL_KANA = "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"  # no line begins with these
LEADING_VOWELS = "เแโใไເແໂໃໄ"  # no line ends with these Thai and Lao vowels, written before their consonant
SPACED = "!?:;»%"  # no line breaks at a space before these, as in French
CLOSING = "\"'”’»)\\]」』）"
SENTENCE_END = re.compile(f"[.!?…。！？｡؟۔।॥][{CLOSING}]*$")
CLAUSE_END = re.compile(f"[,;:،、，；：؛–—][{CLOSING}]*$")
ABBREVIATION = re.compile(r"\W*(\w|Mr|Mrs|Ms|Dr|Prof|St|Hr|Fr)\.")  # usually before a name


def width(text: str) -> int:
    """Columns of a text: two for a wide character, none for a combining mark."""
    import wcwidth  # noqa: PLC0415  takes 30 ms, and only subtitles need it

    return max(wcwidth.wcswidth(text), 0)


def chunks(text: str) -> Iterator[tuple[bool, str]]:
    """The words of a text, each with whether a space precedes it; control characters are dropped.

    In scripts without spaces, single characters.
    """
    printable = "".join(c for c in text if c.isspace() or category(c) != "Cc")
    for space, word in CHUNK.findall(printable):
        yield from ((bool(space) and not i, part) for i, part in enumerate(CLUSTER.findall(word)))


def may_part(before: str, after: str, *, space: bool) -> bool:
    """Whether a line may break between two texts; `space`: whether a space is between them."""
    last, first = before[-1], after[0]
    if space:
        return first not in SPACED and category(last) not in NEVER_LAST
    return (
        bool(WITHOUT_SPACES.match(last) or WITHOUT_SPACES.match(first))
        and category(first) not in NEVER_FIRST
        and category(last) not in NEVER_LAST
        and first not in SMALL_KANA
        and last not in LEADING_VOWELS
    )


def ends_sentence(text: str, following: str) -> bool:
    """Whether a sentence ends with `text`, before `following`."""
    return bool(SENTENCE_END.search(text)) and not (ABBREVIATION.fullmatch(text) or following[:1].islower())


def ends_clause(text: str) -> bool:
    """Whether text ends with the punctuation of a clause, such as a comma."""
    return bool(CLAUSE_END.search(text))
