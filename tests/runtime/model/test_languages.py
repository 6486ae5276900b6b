"""languages.py: openai/whisper's table, and how a language may be asked for."""

import pytest
import whisper

from preheat import cli
from preheat.model import languages

OPENAI = whisper.tokenizer


def test_the_table_is_that_of_openai_whisper() -> None:
    assert languages.NAMES == OPENAI.LANGUAGES and len(languages.NAMES) == 100
    assert languages.CODES == OPENAI.TO_LANGUAGE_CODE


@pytest.mark.parametrize("text", ["de", "DE", "De", "german", "German", "GERMAN", " german "])
def test_a_language_by_code_or_name_in_any_case(text: str) -> None:
    assert cli.arguments(["--language", text, "a.wav"]).language == "de"


def test_every_name_and_code_is_taken() -> None:
    assert [languages.code(text) for text in languages.NAMES] == list(languages.NAMES)
    for name, code in languages.CODES.items():
        assert languages.code(name.title()) == code
    assert languages.code("Flemish") == "nl" and languages.code("Haitian Creole") == "ht"
    assert languages.code("klingon") is None and languages.code("") is None


def test_what_may_have_been_meant() -> None:
    assert languages.similar("germn")[0] == "german"
    assert languages.similar("en_US") == ["english"]
    assert languages.similar("zh-CN") == ["chinese"]
    assert languages.similar("klingon-xx") == []


def test_help_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.arguments(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert [name for name, code in languages.CODES.items() if f"{name} ({code})" not in text] == list(
        languages.ALIASES
    )
