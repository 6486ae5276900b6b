"""The fixture's vocabulary, and tokens by what they mean, for the tests that have no use for a network."""

from collections.abc import Sequence
from pathlib import Path

import torch

from preheat.model.vocabulary import Vocabulary
from preheat.weights import checkpoint

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures/whisper-nato"


def metadata() -> dict[str, str]:
    """What a state file of the fixture model says of itself."""
    return checkpoint.pack(FIXTURE, torch.float32)[1]


def encode(vocabulary: Vocabulary, parts: Sequence[float | str]) -> list[int]:
    """Seconds become timestamps, words become text."""
    found: list[int] = []
    for part in parts:
        if isinstance(part, str):
            found += vocabulary.tokenizer.encode(f" {part}", add_special_tokens=False).ids
        else:
            found.append(vocabulary.first_timestamp + round(part * 50))
    return found
