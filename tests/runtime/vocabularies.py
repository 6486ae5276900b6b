"""The fixture's vocabulary, and token sequences from readable parts, for tests without a network."""

from collections.abc import Sequence
from pathlib import Path

import torch

from preheat.model.vocabulary import Vocabulary
from preheat.weights import checkpoint

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures/whisper-nato"


def metadata() -> dict[str, str]:
    """The metadata of the fixture model's state file."""
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
