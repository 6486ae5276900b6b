"""The 51,866 tokens of large-v3, from the BPE file in the package openai-whisper.

Without that package, they are read from a file that `Words.save` has written on another machine.
"""

import base64
import json
import re
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import WhisperTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.whisper.tokenization_whisper import LANGUAGES

TIMESTAMPS = 1501  # 0.00 to 30.00 s in steps of 0.02 s
WORD = re.compile(rb" [a-z]{4,9}")


@dataclass(frozen=True)
class Words:
    """The tokens, as needed for models with random weights."""

    ids: dict[str, int]
    plain: list[str]  # tokens that are whole words, in several languages
    quiet: list[int]  # tokens that are not speech
    tokenizer: str  # the text of a tokenizer.json

    @classmethod
    def read(cls, path: Path) -> "Words":
        """Read what `save` has written."""
        return cls(**json.loads(path.read_text()))

    @classmethod
    def make(cls) -> "Words":
        """Make it from openai-whisper's file."""
        made, plain = tokenizer()
        quiet = openai().get_tokenizer(multilingual=True, num_languages=len(LANGUAGES))
        return cls(made.get_vocab(), plain, list(quiet.non_speech_tokens), made.backend_tokenizer.to_str())

    def save(self, path: Path) -> None:
        """Write it for machines without openai-whisper."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))


def openai() -> Any:
    """openai-whisper's tokenizer module, loaded by its path: importing the package would import much more."""
    path = Path(str(distribution("openai-whisper").locate_file("whisper/tokenizer.py")))
    spec = spec_from_file_location("openai_whisper_tokenizer", path)
    assert spec and spec.loader  # noqa: S101  for mypy: a file has both
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tokenizer() -> tuple[WhisperTokenizer, list[str]]:
    """transformers' tokenizer, and plain words among its tokens."""
    vocabulary = Path(openai().__file__).parent / "assets" / "multilingual.tiktoken"
    lines = vocabulary.read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    letters = bytes_to_unicode()  # type: ignore[no-untyped-call]  # transformers'

    def text(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [tuple(map(text, halves(token, ranks))) for token in ranks if len(token) > 1]
    vocab = {text(token): rank for token, rank in ranks.items()}
    made = WhisperTokenizer(vocab=vocab, merges=merges)
    made.pad_token = made.eos_token
    names = ["startoftranscript", *LANGUAGES]
    names += ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    made.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in names]})
    made.add_tokens([AddedToken(f"<|{index * 0.02:.2f}|>", special=False) for index in range(TIMESTAMPS)])
    made.set_prefix_tokens()  # again, now that the special tokens exist
    return made, [text(token) for token in ranks if WORD.fullmatch(token)]


def halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that byte-pair encoding merges into this one; tiktoken's file lists only results."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:  # noqa: PLR2004  two halves
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        i = pairs.index(min(pairs))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts[0], parts[1]
