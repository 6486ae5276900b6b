"""Which language is spoken: openai/whisper's test, of as many windows as it takes to be sure."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from preheat.model.decoding import Decoder
from preheat.model.languages import NAMES

SURE = 0.5  # mean probability from which on no further window is asked,
LEAST_SPEECH = 5.0  # seconds of speech that it must rest on: of a lone "hm" a model may be sure, and wrong
MOST_SPEECH = 60.0  # seconds of speech that are asked at most,
MOST_WINDOWS = 4  # and windows


class Language(NamedTuple):
    """What is spoken."""

    code: str  # as in "en"
    probability: float | None = None  # 0 to 1; None if it was not detected


def detect(decoder: Decoder, windows: Iterable[tuple[Tensor, float]]) -> Language:
    """The language of a recording, from its first windows.

    `windows`: of each the features [1, positions, d], and how many seconds of speech are in it. They are
    asked for one after the other until the mean of their probabilities, by their speech, is sure of a
    language; music before the speech leaves one unsure. An English-only model is not asked.
    """
    vocabulary = decoder.vocabulary
    if not vocabulary.multilingual:
        return Language("en")
    codes = list(vocabulary.languages)
    total, heard = torch.zeros(len(codes)), 0.0
    for features, speech in islice(windows, MOST_WINDOWS):
        weight = max(speech, 0.1)  # where none is found, what sounds like it most decides
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
