"""vocabulary.py: special tokens, prompts, and text cut into words as openai/whisper cuts it."""

import json
from itertools import chain
from typing import Any

import pytest
import whisper
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.model.vocabulary import Vocabulary
from tests.runtime import reference
from tests.runtime.vocabularies import encode, metadata

FACTS = metadata()


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(FACTS)


def generation(**changed: Any) -> dict[str, str]:
    """The fixture's metadata with other generation settings."""
    return FACTS | {"generation": json.dumps(json.loads(FACTS["generation"]) | changed)}


def without(*names: str) -> dict[str, str]:
    """The fixture's metadata with a tokenizer that lacks these special tokens; ids stay as they are."""
    known = json.loads(FACTS["tokens"])
    return FACTS | {"tokens": json.dumps(["" if token in names else token for token in known])}


def test_special_tokens_come_from_the_tokenizer(vocabulary: Vocabulary) -> None:
    name = vocabulary.tokenizer.id_to_token
    assert name(vocabulary.end) == "<|endoftext|>"
    assert name(vocabulary.start) == "<|startoftranscript|>"
    assert name(vocabulary.no_timestamps) == "<|notimestamps|>"
    assert name(vocabulary.first_timestamp) == "<|0.00|>"
    assert {task: name(id_) for task, id_ in vocabulary.tasks.items()} == {
        "transcribe": "<|transcribe|>",
        "translate": "<|translate|>",
    }
    assert (vocabulary.start_of_previous, vocabulary.no_speech) == (
        vocabulary.tokenizer.token_to_id("<|startofprev|>"),
        vocabulary.tokenizer.token_to_id("<|nospeech|>"),
    )
    assert vocabulary.multilingual and vocabulary.languages["en"] == vocabulary.start + 1
    assert len(vocabulary.languages) == 100 and {"haw", "yue", "de"} <= set(vocabulary.languages)
    assert all(name(id_) == f"<|{code}|>" for code, id_ in vocabulary.languages.items())


@pytest.mark.parametrize("name", ["<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>"])
def test_a_missing_special_token_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"^has no token <") as caught:
        Vocabulary(without(name))
    assert name in str(caught.value)


def test_older_and_smaller_vocabularies() -> None:
    """<|nocaptions|> was the older name of <|nospeech|>; some checkpoints lack optional tokens."""
    older = Vocabulary(FACTS | {"tokens": FACTS["tokens"].replace("<|nospeech|>", "<|nocaptions|>")})
    assert older.no_speech == Vocabulary(FACTS).no_speech
    smaller = Vocabulary(without("<|translate|>", "<|startofprev|>", "<|nospeech|>", "<|startoflm|>"))
    assert list(smaller.tasks) == ["transcribe"]
    assert smaller.no_speech is smaller.start_of_previous is None
    assert smaller.previous([1, 2, 3], 100) == []


def test_prompts(vocabulary: Vocabulary) -> None:
    start, language, tasks = vocabulary.start, vocabulary.languages["de"], vocabulary.tasks
    transcribe = [start, language, tasks["transcribe"]]
    assert vocabulary.prompt("de", "transcribe", timestamps=True) == transcribe
    assert vocabulary.prompt("de", "transcribe", timestamps=False) == [*transcribe, vocabulary.no_timestamps]
    assert vocabulary.prompt("de", "translate", timestamps=True) == [start, language, tasks["translate"]]


def test_a_model_of_english_only_is_not_asked_for_a_language() -> None:
    vocabulary = Vocabulary(generation(is_multilingual=False))
    assert vocabulary.prompt("en", "transcribe", timestamps=True) == [vocabulary.start]
    assert vocabulary.prompt("en", "transcribe", timestamps=False) == [
        vocabulary.start,
        vocabulary.no_timestamps,
    ]
    assert vocabulary.languages == {"en": vocabulary.start}
    assert not vocabulary.multilingual


def test_without_a_word_about_it_languages_tell() -> None:
    assert Vocabulary(generation(is_multilingual=None)).multilingual


def test_text_before_a_prompt(vocabulary: Vocabulary) -> None:
    """It takes at most half of the positions, including <|startofprev|>; the newest text is kept."""
    before = vocabulary.start_of_previous
    assert vocabulary.previous([], 448) == []
    assert vocabulary.previous([1, 2, 3], 448) == [before, 1, 2, 3]
    assert vocabulary.previous(list(range(223)), 448) == [before, *range(223)]
    assert vocabulary.previous(list(range(500)), 448) == [before, *range(277, 500)]


def test_an_initial_prompt_is_text_with_a_space_in_front(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode("  alpha nine ") == encode(vocabulary, ["alpha", "nine"])


@pytest.mark.parametrize("name", ["<|startoftranscript|>", "<|endoftext|>", "<|0.00|>", "<|en|>"])
def test_names_of_tokens_in_an_initial_prompt_are_text(name: str, vocabulary: Vocabulary) -> None:
    pieces = vocabulary.encode(f"alpha {name} nine")
    assert max(pieces) < vocabulary.end
    assert vocabulary.text(pieces) == f" alpha {name} nine"


def test_text_is_what_is_said(vocabulary: Vocabulary) -> None:
    """Timestamps and the end are not."""
    said = [*encode(vocabulary, [0.0, "alpha", "nine", 1.0]), vocabulary.end]
    assert vocabulary.text(said) == " alpha nine"
    assert vocabulary.text([]) == ""


def test_what_is_suppressed() -> None:
    """The checkpoint's lists, and tokens for prompts only; none that the tokenizer does not know."""
    vocabulary = Vocabulary(generation(suppress_tokens=[3, 99_999], begin_suppress_tokens=[5, 99_999]))
    assert 3 in vocabulary.suppressed and vocabulary.begin_suppressed == [5]
    assert vocabulary.suppressed == sorted(set(vocabulary.suppressed))
    prompts = {vocabulary.start, vocabulary.no_timestamps, vocabulary.start_of_previous, vocabulary.no_speech}
    assert prompts.union(vocabulary.tasks.values()) <= set(vocabulary.suppressed)
    assert max(vocabulary.suppressed) < vocabulary.first_timestamp
    assert vocabulary.end not in vocabulary.suppressed
    empty = Vocabulary(generation(suppress_tokens=None, begin_suppress_tokens=None, alignment_heads=None))
    assert set(empty.suppressed) < set(vocabulary.suppressed)
    assert (empty.begin_suppressed, empty.alignment_heads) == ([], [])


def test_alignment_heads(vocabulary: Vocabulary) -> None:
    assert vocabulary.alignment_heads == [(1, 0), (1, 1)]


def tokens(vocabulary: Vocabulary, text: str) -> list[int]:
    """The tokens of this text; the name of a special token is text, too."""
    vocabulary.tokenizer.encode_special_tokens = True
    return list(vocabulary.tokenizer.encode(text, add_special_tokens=False).ids)


def split(vocabulary: Vocabulary, text: str, language: str = "en") -> list[str]:
    """The words of a text; each with the tokens that make it up."""
    words = vocabulary.words(tokens(vocabulary, text), language)
    assert [word for word, _ in words] == [vocabulary.text(piece) for _, piece in words]
    return [word for word, _ in words]


def test_words_begin_at_spaces(vocabulary: Vocabulary) -> None:
    assert split(vocabulary, " alpha nine") == [" alpha", " nine"]
    assert split(vocabulary, "alpha unheard nine") == ["alpha", " unheard", " nine"]
    assert split(vocabulary, "") == []


def test_punctuation_stands_alone(vocabulary: Vocabulary) -> None:
    assert split(vocabulary, " alpha, nine.") == [" alpha", ",", " nine", "."]
    assert split(vocabulary, " don't - alpha!") == [" don", "'t", " ", "-", " alpha", "!"]


def test_a_character_of_several_tokens_stays_whole(vocabulary: Vocabulary) -> None:
    text = " naïve 日本語 🎉🎉 é"
    assert len(tokens(vocabulary, text)) > len(text)
    assert split(vocabulary, text) == [" naïve", " 日本語", " 🎉🎉", " é"]
    pieces = vocabulary.characters(tokens(vocabulary, "日🎉é"))
    assert [(text, len(piece)) for text, piece in pieces] == [("日", 3), ("🎉", 4), ("é", 2)]


@pytest.mark.parametrize("language", ["zh", "ja", "th", "lo", "my", "yue"])
def test_unspaced_languages_are_cut_at_each_character(language: str, vocabulary: Vocabulary) -> None:
    assert split(vocabulary, "日本語。", language) == ["日", "本", "語", "。"]
    assert split(vocabulary, "日本語。", "en") == ["日本語。"]


def test_a_character_that_really_is_the_replacement_stays(vocabulary: Vocabulary) -> None:
    said = tokens(vocabulary, " a\ufffdb alpha nine")
    assert [word for word, _ in vocabulary.words(said, "en")] == [" a\ufffdb", " alpha", " nine"]


OPENAI: Any = whisper.tokenizer.Tokenizer
ENCODING = reference.encoding(Vocabulary(FACTS))
SAMPLES = [
    " alpha nine",
    " Hello, world! It's 3.14 o'clock -- \"quoted\" (and so on)...",
    " naïve café, «Ægir» … 日本語。 🎉🎉 100%",
    "日本語を話しますか。はい、少し。",
    " ภาษาไทย ไม่มีช่องว่าง",
    "   two  spaces\tand\nlines ",
]


def theirs(pieces: list[int], language: str) -> list[tuple[str, list[int]]]:
    """openai/whisper's words."""
    vocabulary = Vocabulary(FACTS)
    tokenizer = OPENAI(ENCODING, len(vocabulary.languages), language=language, task="transcribe")
    return list(zip(*tokenizer.split_to_word_tokens(pieces), strict=True))


@pytest.mark.parametrize("language", ["en", "ja", "th"])
@pytest.mark.parametrize("text", SAMPLES)
def test_words_are_those_of_openai_whisper(text: str, language: str, vocabulary: Vocabulary) -> None:
    pieces = tokens(vocabulary, text)
    assert vocabulary.words(pieces, language) == theirs(pieces, language)


@settings(deadline=None)
@given(
    # U+FFFD makes openai/whisper raise an IndexError; ours is tested above.
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30),
    language=st.sampled_from(["en", "zh"]),
)
def test_words_of_any_text_are_those_of_openai_whisper(text: str, language: str) -> None:
    vocabulary = Vocabulary(FACTS)
    pieces = tokens(vocabulary, text)
    words = vocabulary.words(pieces, language)
    assert words == theirs(pieces, language)
    assert "".join(word for word, _ in words) == vocabulary.text(pieces)


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_an_initial_prompt_is_what_the_tokenizer_makes_of_it(text: str) -> None:
    vocabulary = Vocabulary(FACTS)
    assert vocabulary.encode(text) == tokens(vocabulary, f" {text.strip()}")


@settings(deadline=None)
@given(pieces=st.lists(st.integers(0, 420), max_size=12), language=st.sampled_from(["en", "zh"]))
def test_no_token_is_lost_from_words(pieces: list[int], language: str) -> None:
    """Not even tokens that are not valid text: a model may write half a character, and go on."""
    vocabulary = Vocabulary(FACTS)
    words = vocabulary.words(pieces, language)
    assert list(chain.from_iterable(piece for _, piece in words)) == pieces
    assert all(piece for _, piece in words)


def test_half_a_character(vocabulary: Vocabulary) -> None:
    """In the middle, openai/whisper makes the rest one word, or loses it; at the end it raises."""
    half = tokens(vocabulary, "日")[:2]
    alpha, nine = (tokens(vocabulary, text) for text in (" alpha", " nine"))
    assert vocabulary.words([*alpha, *half], "en") == [(" alpha\ufffd", [*alpha, *half])]
    words = vocabulary.words([*alpha, *half, *nine, *alpha], "en")
    assert [word for word, _ in words] == [" alpha\ufffd", " nine", " alpha"]
    assert list(chain.from_iterable(piece for _, piece in words)) == [*alpha, *half, *nine, *alpha]


@settings(deadline=None)
@given(pieces=st.lists(st.integers(0, 256) | st.integers(0, 420), max_size=12))
def test_text_is_what_the_tokenizer_decodes(pieces: list[int]) -> None:
    """For any tokens, complete characters or not: the first 257 include a token for each byte."""
    vocabulary = Vocabulary(FACTS)
    wanted = vocabulary.tokenizer.decode([piece for piece in pieces if piece < vocabulary.end])
    assert vocabulary.text(pieces) == wanted
