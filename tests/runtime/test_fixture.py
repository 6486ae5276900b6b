"""The fixture model works: transformers' own `generate` transcribes the samples correctly with it."""

import json
from typing import Any

import pytest

from bench.wer import CHECKPOINT, FIXTURES, Recogniser, sample, word_error_rate
from preheat.audio.constants import SAMPLE_RATE

MOST_ERRORS = 0.05  # of the words


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    """The committed checkpoint, loaded by `from_pretrained`."""
    return Recogniser(CHECKPOINT)


@pytest.fixture(scope="module")
def vocabulary(recogniser: Recogniser) -> dict[str, int]:
    """Token ids by token."""
    return dict(recogniser.processor.tokenizer.get_vocab())


def test_short_sample_is_heard(recogniser: Recogniser) -> None:
    audio, text = sample("short")
    assert 5 <= len(audio) / SAMPLE_RATE <= 10
    assert word_error_rate([text], recogniser.windows([audio])) <= MOST_ERRORS
    assert word_error_rate([text], recogniser.windows([audio], timestamps=True)) <= MOST_ERRORS


def test_long_sample_is_heard(recogniser: Recogniser) -> None:
    audio, text = sample("long")
    assert 60 <= len(audio) / SAMPLE_RATE <= 90
    assert word_error_rate([text], [recogniser.long_form(audio)]) <= MOST_ERRORS


def test_nothing_is_heard_in_noise(recogniser: Recogniser) -> None:
    audio, text = sample("noise")
    assert text == ""
    assert 10 <= len(audio) / SAMPLE_RATE <= 15
    assert recogniser.long_form(audio) == ""


def test_references_use_words_of_one_token(vocabulary: dict[str, int]) -> None:
    for name in ("short", "long"):
        _, text = sample(name)
        assert text
        assert [word for word in text.split() if f"Ġ{word}" not in vocabulary] == []


def test_language_is_detected(recogniser: Recogniser, vocabulary: dict[str, int]) -> None:
    audio, _ = sample("short")
    features = recogniser.processor.feature_extractor(
        audio, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    ).input_features
    assert recogniser.model.detect_language(features).tolist() == [vocabulary["<|en|>"]]


def test_special_tokens_stand_as_on_a_real_checkpoint(
    recogniser: Recogniser, vocabulary: dict[str, int]
) -> None:
    settings: Any = recogniser.model.generation_config  # its attributes are those of its file
    assert settings.no_timestamps_token_id == vocabulary["<|notimestamps|>"]
    assert settings.no_timestamps_token_id - 1 == vocabulary["<|nospeech|>"]  # transformers relies on it
    assert settings.no_timestamps_token_id + 1 == vocabulary["<|0.00|>"]
    assert settings.lang_to_id["<|en|>"] == vocabulary["<|en|>"]
    assert settings.task_to_id["transcribe"] == vocabulary["<|transcribe|>"]
    assert settings.prev_sot_token_id == vocabulary["<|startofprev|>"]
    config = recogniser.model.config
    assert len(vocabulary) == config.vocab_size == vocabulary["<|30.00|>"] + 1
    assert all(
        layer < config.decoder_layers and head < config.decoder_attention_heads
        for layer, head in settings.alignment_heads
    )


def test_fixture_is_small_and_float32() -> None:
    files = [file for file in FIXTURES.rglob("*") if file.is_file() and file.parent.name != "__pycache__"]
    assert sum(file.stat().st_size for file in files) <= 10e6
    assert json.loads((CHECKPOINT / "config.json").read_text())["dtype"] == "float32"
