"""openai/whisper's own package over any checkpoint, to compare with: its model class, tokenizer and loop.

Its tokenizer is built for the checkpoint's vocabulary instead of the one that the package ships.
"""

import json
import sys
from pathlib import Path
from typing import Any

import tiktoken
import torch
import whisper

from bench import openai_weights
from preheat.model.vocabulary import Vocabulary


def bytes_by_character() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, other bytes for characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def encoding(vocabulary: Vocabulary) -> tiktoken.Encoding:
    """The checkpoint's byte-pair encoding; its ids are in the order of its merges, as tiktoken's ranks."""
    characters = bytes_by_character()
    document = json.loads(vocabulary.tokenizer.to_str())
    special = {token["content"]: token["id"] for token in document["added_tokens"]}
    ranks = {
        bytes(characters[c] for c in text): id_
        for text, id_ in document["model"]["vocab"].items()
        if text not in special
    }
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's
    return tiktoken.Encoding("checkpoint", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def load(folder: Path, vocabulary: Vocabulary) -> Any:
    """openai/whisper's model with a checkpoint's weights, float32 on the CPU; Any, for it has no types."""
    dims = openai_weights.dimensions(folder, whisper)
    # openai/whisper derives both from the vocabulary's size, which holds only for its own checkpoints.
    facts = {"is_multilingual": vocabulary.multilingual, "num_languages": len(vocabulary.languages)}
    model = type("Whisper", (whisper.model.Whisper,), facts)(dims)
    model.load_state_dict(openai_weights.tensors(folder))
    heads = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
    for layer, head in vocabulary.alignment_heads:
        heads[layer, head] = True
    model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)

    def tokenizer(
        multilingual: bool, *, num_languages: int, language: str | None = None, task: str | None = None
    ) -> Any:
        return whisper.tokenizer.Tokenizer(
            encoding=encoding(vocabulary),
            num_languages=num_languages,
            language=language or "en" if multilingual else None,
            task=task or "transcribe" if multilingual else None,
        )

    for module in ("decoding", "transcribe"):
        setattr(sys.modules[f"whisper.{module}"], "get_tokenizer", tokenizer)  # noqa: B010  mypy knows modules
    return model.eval()
