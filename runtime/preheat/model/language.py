"""Detects the language: openai/whisper's test, over as many windows as it takes to be sure."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from preheat.model.decoding import Decoder
from preheat.model.languages import NAMES

SURE = 0.5  # mean probability at which no further window is tested
LEAST_SPEECH = 5.0  # seconds of speech needed for that: a model may be sure, and wrong, about a lone "hm"
MOST_SPEECH = 60.0  # seconds of speech after which testing ends in any case
MOST_WINDOWS = 4  # windows that are tested at most


class Language(NamedTuple):
    """The language of a recording."""

    code: str  # as in "en"
    probability: float | None = None  # 0 to 1; None if it was not detected


def detect(decoder: Decoder, windows: Iterable[tuple[Tensor, float]]) -> Language:
    """The language of a recording, from its first windows.

    `windows`: the features [1, positions, d] of each, and its seconds of speech. They are consumed one by one
    until the mean of their probabilities, weighted by speech, reaches SURE: a single window may start with
    music and decide nothing. An English-only model is not run.
    """
    vocabulary = decoder.vocabulary
    if not vocabulary.multilingual:
        return Language("en")
    codes = list(vocabulary.languages)
    total, heard = torch.zeros(len(codes)), 0.0
    for features, speech in islice(windows, MOST_WINDOWS):
        weight = max(speech, 0.1)  # without any speech, windows still count
        total += weight * decoder.languages(features)[0].cpu()
        heard += weight
        if (heard >= LEAST_SPEECH and total.max() / heard >= SURE) or heard >= MOST_SPEECH:
            break
    best = int(total.argmax())
    found = Language(codes[best], round(float(total[best]) / heard, 4))
    if decoder.log:
        name = NAMES.get(found.code, found.code).title()
        decoder.log.info(f"language: {name} ({found.code}), {found.probability:.0%} sure")
    return found
