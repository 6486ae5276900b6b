"""From log-mel to segments: Whisper's decoding rules and its way through a long recording.

The rules are those of openai/whisper (decoding.py and transcribe.py there): greedy choice of tokens,
suppressed tokens, the grammar of timestamps, the no-speech test, and the seek loop, which begins the next
window where the last complete segment ended, so that no word is cut in two. Two things differ:
* what follows the end of a recording within its last window is the log-mel of silence, as the model was
  trained on, and not zeros, which on that scale are a loud noise;
* a window without words is left one second before its end, for a word may begin there.
"""

import json
import re
from dataclasses import dataclass

import torch
from formats import Segment, Transcript
from tokenizers import Tokenizer
from torch import Tensor
from whisper import Whisper

FRAMES_PER_SECOND = 100  # of log-mel
FRAMES_PER_TIMESTAMP = 2  # <|0.02|>, <|0.04|>, …
OVERLAP = 100  # frames: longer than most words
NO_SPEECH_THRESHOLD = 0.6  # a window is silent if <|nospeech|> is more probable than this
LOGPROB_THRESHOLD = -1.0  # unless the mean log-probability of its tokens is above this
LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")  # the token of one: <|en|>, <|haw|>


class Vocabulary:
    """The tokens, and which of them mean something special; ids come from the tokenizer's own names."""

    def __init__(self, metadata: dict[str, str]) -> None:
        """`metadata` as state.py describes it. Raises ValueError if a special token is missing."""
        self.tokenizer = Tokenizer.from_str(metadata["tokenizer"])
        settings = json.loads(metadata["generation"])
        added = self.tokenizer.get_added_tokens_decoder()
        special = {token.content: id_ for id_, token in added.items()}
        needed = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")
        if missing := [name for name in needed if name not in special]:
            raise ValueError(f"its tokenizer has no token {missing[0]}")
        self.end, self.start, self.transcribe, self.no_timestamps = (special[name] for name in needed)
        self.first_timestamp = self.no_timestamps + 1  # <|0.00|>; not every tokenizer lists it
        self.no_speech = special.get("<|nospeech|>", special.get("<|nocaptions|>"))
        languages = {name[2:-2]: id_ for name, id_ in special.items() if LANGUAGE.fullmatch(name)}
        multilingual = settings["is_multilingual"]
        self.multilingual = bool(languages) if multilingual is None else bool(multilingual)
        self.languages = languages if self.multilingual else {"en": self.start}
        self.max_initial_timestamp = settings["max_initial_timestamp_index"]
        others = ("<|translate|>", "<|startofprev|>", "<|startoflm|>")
        tasks = {self.start, self.transcribe, self.no_speech, self.no_timestamps, *map(special.get, others)}
        # Some checkpoints were given another vocabulary, but kept its predecessor's lists.
        known = set(range(self.tokenizer.get_vocab_size()))
        self.suppressed = sorted(known.intersection(tasks.union(settings["suppress_tokens"] or [])))
        self.begin_suppressed = sorted(known.intersection(settings["begin_suppress_tokens"] or []))

    def prompt(self, language: str) -> list[int]:
        """The tokens that ask for a transcription with timestamps."""
        if not self.multilingual:
            return [self.start]
        return [self.start, self.languages[language], self.transcribe]

    def text(self, tokens: list[int]) -> str:
        """The words among the tokens."""
        return str(self.tokenizer.decode([token for token in tokens if token < self.end]))


@dataclass(frozen=True)
class Result:
    """What the decoder made of one window."""

    tokens: list[int]  # without the prompt and without the end
    avg_logprob: float
    no_speech_prob: float

    @property
    def silent(self) -> bool:
        """Whether openai/whisper's test finds no speech in the window."""
        return self.no_speech_prob > NO_SPEECH_THRESHOLD and self.avg_logprob <= LOGPROB_THRESHOLD


def transcribe(
    network: Whisper, vocabulary: Vocabulary, mel: Tensor, frames: int, language: str | None
) -> Transcript:
    """Decode a recording; of `mel` [mel bins, frames + 30 s of silence] the first `frames` are its own.

    Without `language`, the most probable one of the first window that holds speech is taken.
    """
    size = network.dims.max_source_positions * FRAMES_PER_TIMESTAMP
    known = language is not None or not vocabulary.multilingual
    heard = language or "en"
    segments: list[Segment] = []
    seek = 0
    while seek < frames:
        features = network.encode(mel[None, :, seek : seek + size])
        if not known:
            ((heard, no_speech),) = detect_language(network, vocabulary, features)
            known = no_speech <= NO_SPEECH_THRESHOLD
        (result,) = decode(network, vocabulary, features, vocabulary.prompt(heard))
        length = min(size, frames - seek)
        found, settled = ([], length) if result.silent else cut(vocabulary, result, seek, length)
        if not found and seek + length < frames:
            settled = length - OVERLAP
        segments += found
        seek += settled
    return Transcript(heard, segments)


def cut(vocabulary: Vocabulary, result: Result, seek: int, length: int) -> tuple[list[Segment], int]:
    """The segments of a window, and how many of its `length` frames they settle; the next begins there.

    A segment ends where two timestamps meet: its own end and the start of the next. If the window's end cuts
    one off, it is left to the next window.
    """
    tokens = result.tokens
    stamps = [token - vocabulary.first_timestamp for token in tokens]  # negative: not a timestamp
    ends = [i for i in range(1, len(stamps)) if stamps[i - 1] >= 0 and stamps[i] >= 0]
    settled = length
    if not ends or stamps[-1] >= 0 > stamps[-2]:  # one timestamp at the end: nothing is said after it
        ends.append(len(tokens))
    else:
        settled = stamps[ends[-1] - 1] * FRAMES_PER_TIMESTAMP
    segments = []
    for begin, end in zip([0, *ends], ends, strict=False):
        text = vocabulary.text(tokens[begin:end])
        times = [stamp * FRAMES_PER_TIMESTAMP for stamp in stamps[begin:end] if stamp >= 0]
        first, last = times[0] if times else 0, times[-1] if len(times) > 1 else length
        first, last = (seek + min(time, length) for time in (first, last))  # not beyond the recording
        if text.strip():
            segments.append(
                Segment(
                    seek=seek,
                    start=first / FRAMES_PER_SECOND,
                    end=last / FRAMES_PER_SECOND,
                    text=text,
                    tokens=tokens[begin:end],
                    avg_logprob=result.avg_logprob,
                    no_speech_prob=result.no_speech_prob,
                )
            )
    return segments, settled


def no_speech_probability(vocabulary: Vocabulary, logits: Tensor) -> list[float]:
    """How probable <|nospeech|> is after <|startoftranscript|>: [B, vocab_size] logits → B values, 0 to 1."""
    if vocabulary.no_speech is None:
        return [0.0] * len(logits)
    return logits.softmax(dim=-1)[:, vocabulary.no_speech].tolist()


def detect_language(network: Whisper, vocabulary: Vocabulary, features: Tensor) -> list[tuple[str, float]]:
    """Most probable language and no-speech probability of each window of `features` [B, positions, d]."""
    start = torch.full((len(features), 1), vocabulary.start, device=network.device)
    logits = network.decode(start, network.cache(features))[:, 0]
    codes, ids = list(vocabulary.languages), list(vocabulary.languages.values())
    best = logits[:, ids].argmax(dim=-1).tolist()
    return [(codes[i], p) for i, p in zip(best, no_speech_probability(vocabulary, logits), strict=True)]


@torch.inference_mode()
def decode(network: Whisper, vocabulary: Vocabulary, features: Tensor, prompt: list[int]) -> list[Result]:
    """Greedily decode the windows of `features` [B, positions, d], all after the same prompt."""
    rules = Rules(vocabulary, network)
    cache = network.cache(features)
    logits = network.decode(torch.tensor([prompt] * len(features), device=network.device), cache)
    no_speech = no_speech_probability(vocabulary, logits[:, prompt.index(vocabulary.start)])
    tokens = torch.empty((len(features), 0), dtype=torch.long, device=network.device)
    sums = torch.zeros(len(features), device=network.device)
    ended = torch.zeros(len(features), dtype=torch.bool, device=network.device)
    for _ in range(network.dims.max_target_positions // 2):
        logprobs = rules(logits[:, -1], tokens).log_softmax(dim=-1)
        best, chosen = logprobs.max(dim=-1)
        sums += best.masked_fill(ended, 0)
        chosen = chosen.masked_fill(ended, vocabulary.end)
        tokens = torch.cat((tokens, chosen[:, None]), dim=1)
        ended |= chosen == vocabulary.end
        if ended.all():
            break
        logits = network.decode(chosen[:, None], cache)
    results = []
    for row, total, p in zip(tokens.tolist(), sums.tolist(), no_speech, strict=True):
        kept = row[: row.index(vocabulary.end)] if vocabulary.end in row else row
        results.append(Result(kept, total / (len(kept) + 1), p))
    return results


class Rules:
    """Which token may follow: openai/whisper's logit filters, for all windows of a batch at once."""

    def __init__(self, vocabulary: Vocabulary, network: Whisper) -> None:
        self.vocabulary = vocabulary
        self.suppressed = torch.tensor(vocabulary.suppressed, device=network.device)
        self.begin_suppressed = torch.tensor(
            vocabulary.begin_suppressed, dtype=torch.long, device=network.device
        )
        self.ids = torch.arange(vocabulary.first_timestamp, network.dims.vocab_size, device=network.device)

    def __call__(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """`logits` [B, vocab_size], changed in place, for what follows `tokens` [B, decoded so far]."""
        first, end, never = self.vocabulary.first_timestamp, self.vocabulary.end, float("-inf")
        logits[:, self.suppressed] = never
        if tokens.shape[1] == 0:  # a timestamp, and not too late
            logits[:, self.begin_suppressed] = never
            logits[:, :first] = never
            if self.vocabulary.max_initial_timestamp is not None:
                logits[:, first + self.vocabulary.max_initial_timestamp + 1 :] = never
            return logits
        last = tokens[:, -1] >= first
        before = tokens[:, -2] >= first if tokens.shape[1] > 1 else torch.ones_like(last)
        opened, closed = (last & before)[:, None], (last & ~before)[:, None]
        logits[:, first:].masked_fill_(opened, never)  # after the start of a segment: text
        logits[:, :end].masked_fill_(closed, never)  # after its end: the next one's start, or the end of all
        # Time does not go back, and only a start may be where the last end was. The newest timestamp is the
        # greatest token; without one all tokens are below `first`, and nothing is forbidden.
        earliest = tokens.amax(dim=1, keepdim=True) + (~closed).long()
        logits[:, first:].masked_fill_(self.ids < earliest, never)
        # A timestamp, if all of them together are more probable than any text token.
        timestamp = logits[:, first:].logsumexp(dim=-1) > logits[:, :first].amax(dim=-1)
        logits[:, :first].masked_fill_(timestamp[:, None], never)
        return logits
