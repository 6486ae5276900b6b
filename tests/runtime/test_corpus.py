"""Nothing is lost, repeated or hallucinated: hours of recordings against their phrases decoded alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jiwer
import pytest
import torch

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.vad import Detector, spoken
from preheat.model import batched
from preheat.model.decoding import Decoder
from preheat.model.features import log_mel
from preheat.model.layout import Dimensions
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.options import Options
from preheat.weights import state
from preheat.weights.readahead import ReadAhead
from tests.fixtures.make import corpus

SIZE = 16  # windows at a time
LEAD = 0.3  # s of silence before a phrase that is decoded alone, as before one that the detector finds
MARGIN = 0.005  # of the words: how much worse a recording may be than its phrases alone
WORST = 0.05  # of the words: the fixture model's own limit


@dataclass
class Outcome:
    """What was said in a recording, and the transcripts of its single phrases and of the whole."""

    seconds: float
    said: str
    alone: str
    together: str


@pytest.fixture(scope="module")
def outcomes(baked: Path) -> list[Outcome]:
    """All recordings of the corpus, decoded. Takes a few minutes, which all tests here share."""
    tensors, metadata = state.load(ReadAhead(baked / "state/whisper-nato.safetensors"))
    network = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    decoder = Decoder(network, Vocabulary(metadata), Options(language="en"), SIZE)
    detector = Detector.load()
    torch.manual_seed(0)
    found = []
    for recording in corpus.recordings():
        speech = spoken(detector.probabilities(recording.audio), len(recording.audio))
        transcript = batched.transcribe(decoder, torch.from_numpy(recording.audio), speech)
        together = " ".join(segment.text.strip() for segment in transcript.segments)
        alone = " ".join(phrases_alone(decoder, recording))
        found.append(Outcome(len(recording.audio) / SAMPLE_RATE, recording.text, alone, together))
    return found


def phrases_alone(decoder: Decoder, recording: corpus.Recording) -> Iterator[str]:
    """The transcript of each phrase, with its noise, alone in a window."""
    network = decoder.network
    for first in range(0, len(recording.phrases), SIZE):
        phrases = recording.phrases[first : first + SIZE]
        windows = torch.zeros(len(phrases), 30 * SAMPLE_RATE)
        for window, (start, phrase) in zip(windows, phrases, strict=True):
            begin, end = round(start * SAMPLE_RATE), round((start + phrase.seconds) * SAMPLE_RATE)
            sound = torch.from_numpy(recording.audio[begin:end])
            lead = round(LEAD * SAMPLE_RATE)
            window[lead : lead + len(sound)] = sound
        features = network.encode(log_mel(windows, network.window, network.filters))
        for result in decoder.decode(features, decoder.prompt("en", [])):
            yield decoder.vocabulary.text(result.tokens).strip()


def error_rate(said: list[str], written: list[str]) -> float:
    """Wrong, missing and extra words, per word."""
    return float(jiwer.wer(said, written))


def test_the_corpus_is_what_it_should_be(outcomes: list[Outcome]) -> None:
    spoken_ones = [outcome for outcome in outcomes if outcome.said]
    lengths = sorted(outcome.seconds for outcome in spoken_ones)
    assert len(spoken_ones) >= 200 and len(outcomes) - len(spoken_ones) >= 10
    assert 4 < lengths[0] < 10 and 480 < lengths[-1] < 700


def test_words_are_those_of_the_phrases_alone(outcomes: list[Outcome]) -> None:
    found = [outcome for outcome in outcomes if outcome.said]
    said = [outcome.said for outcome in found]
    alone = error_rate(said, [outcome.alone for outcome in found])
    together = error_rate(said, [outcome.together for outcome in found])
    print(f"{sum(map(len, map(str.split, said)))} words: {alone:.2%} wrong alone, {together:.2%} together")
    assert alone < WORST
    assert together < alone + MARGIN


@pytest.mark.parametrize(("least", "most"), [(0, 30), (30, 90), (90, 240), (240, 700)])
def test_of_every_length(least: int, most: int, outcomes: list[Outcome]) -> None:
    """A wider margin, as there are fewer words; shows if one class is bad, which the total may hide."""
    found = [outcome for outcome in outcomes if outcome.said and least <= outcome.seconds < most]
    said = [outcome.said for outcome in found]
    alone = error_rate(said, [outcome.alone for outcome in found])
    assert error_rate(said, [outcome.together for outcome in found]) < alone + 4 * MARGIN


def test_nothing_is_heard_where_nothing_is_said(outcomes: list[Outcome]) -> None:
    assert [outcome.together for outcome in outcomes if not outcome.said and outcome.together] == []
