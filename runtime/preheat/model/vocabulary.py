"""A checkpoint's tokens: special tokens, prompts, and decoding to text and words."""

import json
import re
import string
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")  # a language's token: <|en|>, <|haw|>
UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")  # languages that put no space between words
BROKEN = "\ufffd"  # what an incomplete character decodes to

# A token is written with a character for each of its bytes, in the alphabet of GPT-2's byte-level encoding
# (https://github.com/openai/gpt-2/blob/master/src/encoder.py): printable bytes stand for themselves.
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHERS = sorted(set(range(256)).difference(PRINTABLE))
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(OTHERS)}


class Vocabulary:
    """The tokens, and which of them mean something special; ids come from the tokenizer's own names."""

    def __init__(self, metadata: dict[str, str]) -> None:
        """`metadata`: see statefile.py. Raises ValueError if a special token is missing.

        Also raises KeyError, TypeError or AttributeError if the metadata is not as described there.
        """
        self._tokenizer = metadata["tokenizer"]
        self.tokens: list[str] = json.loads(metadata["tokens"])  # by id
        settings = json.loads(metadata["generation"])
        special = {token: id_ for id_, token in enumerate(self.tokens) if token.startswith("<|")}
        needed = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")
        if missing := [name for name in needed if name not in special]:
            raise ValueError(f"has no token {missing[0]}")
        self.end, self.start, transcribe, self.no_timestamps = (special[name] for name in needed)
        self.tasks = {"transcribe": transcribe}
        if "<|translate|>" in special:
            self.tasks["translate"] = special["<|translate|>"]
        self.start_of_previous = special.get("<|startofprev|>")
        self.first_timestamp = self.no_timestamps + 1  # <|0.00|>, which some tokenizers do not list
        self.no_speech = special.get("<|nospeech|>", special.get("<|nocaptions|>"))
        languages = {name[2:-2]: id_ for name, id_ in special.items() if LANGUAGE.fullmatch(name)}
        multilingual = settings["is_multilingual"]
        self.multilingual = bool(languages) if multilingual is None else bool(multilingual)
        self.languages = languages if self.multilingual else {"en": self.start}
        self.max_initial_timestamp = settings["max_initial_timestamp_index"]
        # (decoder layer, head) pairs whose attention follows the sound; none if the checkpoint names none.
        self.alignment_heads = [(int(layer), int(head)) for layer, head in settings["alignment_heads"] or []]
        others = (self.start_of_previous, self.no_speech, self.no_timestamps, special.get("<|startoflm|>"))
        never = {self.start, *self.tasks.values(), *others}
        # Some checkpoints have a changed vocabulary, but still the lists of the old one.
        known = set(range(len(self.tokens)))
        self.suppressed = sorted(known.intersection(never.union(settings["suppress_tokens"] or [])))
        self.begin_suppressed = sorted(known.intersection(settings["begin_suppress_tokens"] or []))

    def prompt(self, language: str, task: str, *, timestamps: bool) -> list[int]:
        """The tokens that ask for a transcription (or translation to English) of a window."""
        named = [self.languages[language], self.tasks[task]] if self.multilingual else []
        return [self.start, *named, *([] if timestamps else [self.no_timestamps])]

    def previous(self, tokens: list[int], positions: int) -> list[int]:
        """The previous text to put before a prompt: as much as fits into a decoder of `positions`."""
        if not tokens or self.start_of_previous is None:
            return []
        return [self.start_of_previous, *tokens[-(positions // 2 - 1) :]]

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The full tokenizer, needed only to encode: to build it takes longer than to load all tensors."""
        from tokenizers import Tokenizer  # noqa: PLC0415  slow, and rarely needed

        return Tokenizer.from_str(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text that precedes others, such as an initial prompt.

        Special tokens are not recognised: <|en|> means these six characters. That is why this bypasses the
        tokenizer's added-token matching and calls its pre-tokenizer and model directly.
        """
        split, model = self.tokenizer.pre_tokenizer, self.tokenizer.model
        pieces = [piece for piece, _ in split.pre_tokenize_str(f" {text.strip()}")]
        return [token.id for piece in pieces for token in model.tokenize(piece)]

    def text(self, tokens: "Sequence[int]") -> str:
        """The text of the tokens, without special ones."""
        written = "".join(self.tokens[token] for token in tokens if token < self.end)
        return bytes(map(BYTES.__getitem__, written)).decode(errors="replace")

    def words(self, tokens: list[int], language: str) -> list[tuple[str, list[int]]]:
        """Text tokens as words with their tokens: split at spaces and punctuation, as openai/whisper does."""
        pieces = self.characters(tokens)
        if language in UNSPACED:
            return pieces
        words: list[tuple[str, list[int]]] = []
        for text, piece in pieces:
            if not words or text.startswith(" ") or text.strip() in string.punctuation:
                words.append((text, piece))
            else:
                words[-1] = (words[-1][0] + text, words[-1][1] + piece)
        return words

    def characters(self, tokens: list[int]) -> list[tuple[str, list[int]]]:
        """The shortest runs of tokens that decode to whole characters, each with its text."""
        whole = self.text(tokens)
        pieces: list[tuple[str, list[int]]] = []
        run: list[int] = []
        at = 0  # characters of `whole` that the pieces make up
        for token in tokens:
            run = [*run, token]
            text = self.text(run)
            # A genuine U+FFFD also stands in the whole text.
            if BROKEN in text and whole[at + text.index(BROKEN) :][:1] != BROKEN:
                # After a character that was never completed, the text goes on with the next one.
                text = text.lstrip(BROKEN)
                if not text or not whole.startswith(text, at):
                    continue
            pieces.append((text, run))
            run = []
            at += len(text)
        if run:  # the rest of a character that was never completed
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + run)
        return pieces
