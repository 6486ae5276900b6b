"""From the features of windows to tokens: Whisper's decoding, for a batch of windows at a time.

As in openai/whisper (decoding.py there, and `decode_with_fallback` in transcribe.py): greedy decoding or the
best of several samples, logit filters, and a retry at a higher temperature if a result looks wrong.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from preheat.model.graph import Graphs, Step
from preheat.model.logit_filters import History, LogitFilters
from preheat.model.vocabulary import Vocabulary
from preheat.model.whisper import Whisper
from preheat.options import Options
from preheat.timing import Log

Item = TypeVar("Item")

TILE = 16  # a graph's rows are rounded up to a multiple of this, or to a power of two below it
CHECK_EVERY = 8  # steps between checks whether all rows have ended: a check waits for the device
MOST_TOKENS = 2500  # for retries of a window, all samples together: about two tries of full length
LEAST = torch.finfo(torch.float32).min  # a log-probability
SMALLEST = torch.finfo(torch.float32).tiny  # lower limit of an exponential variable


@dataclass(frozen=True)
class Result:
    """What the decoder made of one window."""

    tokens: list[int]  # without the prompt and without the end
    avg_logprob: float
    no_speech_prob: float
    temperature: float = 0.0
    compression_ratio: float = 1.0

    def silent(self, options: Options) -> bool:
        """Whether openai/whisper's test finds no speech in the window."""
        if options.no_speech_threshold is None or self.no_speech_prob <= options.no_speech_threshold:
            return False
        return options.logprob_threshold is None or self.avg_logprob <= options.logprob_threshold

    def fails(self, options: Options) -> bool:
        """Whether it should be tried again at a higher temperature."""
        ratio, logprob = options.compression_ratio_threshold, options.logprob_threshold
        improbable = logprob is not None and self.avg_logprob < logprob
        if improbable and self.silent(options):
            return False
        return improbable or (ratio is not None and self.compression_ratio > ratio)


@dataclass
class Decoder:
    """Decodes windows with one network; keeps batches, with their buffers and graphs, for reuse."""

    network: Whisper
    vocabulary: Vocabulary
    options: Options = field(default_factory=Options)
    size: int = 1  # windows at a time
    log: Log | None = None
    growing: bool = False  # prompts grow with the previous text: caches get their full capacity at once
    kept: "dict[Kind, Batch]" = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def graphs(self) -> Graphs:
        """Captures the steps of all batches."""
        return Graphs(self.network.device, self.log)

    def prompt(self, language: str, before: list[int]) -> list[int]:
        """The prompt's tokens: previous text `before`, then language, task and timestamps."""
        vocabulary = self.vocabulary
        before = vocabulary.previous(before, self.network.dims.max_target_positions)
        return before + vocabulary.prompt(language, self.options.task, timestamps=True)

    def decode(self, features: Tensor, prompt: list[int]) -> list[Result]:
        """Decode each window of `features` [B, positions, d] after the prompt, with retries."""
        tries: list[list[Result]] = [[] for _ in features]
        for temperature in self.options.temperature:
            rows = [i for i, made in enumerate(tries) if self._again(made)]
            if not rows:
                break
            # Each sample of a window takes as much memory as a window.
            for part in parts(rows, max(1, self.size // self._samples(temperature))):
                chosen = features if len(part) == len(features) else features[part]
                for row, result in zip(part, self.decode_once(chosen, prompt, temperature), strict=True):
                    tries[row].append(result)
        return [best(made, self.options) for made in tries]

    def _again(self, made: list[Result]) -> bool:
        """Whether a window with these results should be tried once more.

        openai/whisper goes on to the last temperature: for a window of noise, 25 samples of full length, of
        which it keeps the last, least reliable one.
        """
        if not made:
            return True
        if not made[-1].fails(self.options):
            return False
        spent = sum(self._samples(result.temperature) * (len(result.tokens) + 1) for result in made[1:])
        return spent < MOST_TOKENS and not hopeless(made, self.options)

    @torch.inference_mode()
    def decode_once(self, features: Tensor, prompt: list[int], temperature: float = 0.0) -> list[Result]:
        """Like `decode`, at one temperature: greedy at 0, else the most probable of several samples."""
        end = self.vocabulary.end
        group = self._samples(temperature)
        batch = self._batch(len(features) * group, prompt)
        no_speech = batch.begin(features.repeat_interleave(group, dim=0), prompt, temperature)
        results = []
        for row, (tokens, logprob) in enumerate(batch.finish()):
            kept = tokens[: tokens.index(end)] if end in tokens else tokens
            text = self.vocabulary.text(kept).strip().encode()
            ratio = len(text) / len(zlib.compress(text))
            found = Result(kept, logprob / (len(kept) + 1), no_speech[row], temperature, ratio)
            results.append((logprob / max(len(kept), 1), found))
        groups = (results[i : i + group] for i in range(0, len(results), group))
        return [max(candidates, key=lambda scored: scored[0])[1] for candidates in groups]

    @torch.inference_mode()
    def languages(self, features: Tensor) -> Tensor:
        """The probability of each language in each window: [B, positions, d] → [B, languages].

        In the order of `vocabulary.languages`; openai/whisper's `detect_language`.
        """
        cache = self.network.cache(len(features), capacity=1)
        self.network.prefill_cross(features, cache)
        start = torch.full((len(features), 1), self.vocabulary.start, device=self.network.device)
        logits = self.network.decode(start, cache)[:, 0, list(self.vocabulary.languages.values())]
        return logits.softmax(dim=-1).nan_to_num(nan=0.0)

    def shrink(self, windows: int) -> None:
        """Decode half of `windows` at a time from now on: there was not enough memory for so many."""
        self.size = -(-windows // 2)
        self.forget()
        if self.log:
            self.log.info(f"out of memory; going on with {self.size} windows at a time")

    def forget(self) -> None:
        """Free the memory of kept batches."""
        self.kept.clear()
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()

    def _samples(self, temperature: float) -> int:
        """How many samples of each window are decoded, to take the best."""
        return self.options.best_of if temperature else 1

    def _batch(self, rows: int, prompt: list[int]) -> "Batch":
        """A batch with room for `rows`; a kept one if it fits, with its captured graph."""
        if self.graphs.working:  # round up, as each different size needs a graph of its own
            tile = min(TILE, 1 << (rows - 1).bit_length())
            rows = max(rows, min(-(-rows // tile) * tile, self.size))
        positions = self.network.dims.max_target_positions
        room = positions if self.growing else capacity(self.network, len(prompt))
        kind = Kind(rows, room, prompt[-1] != self.vocabulary.no_timestamps)
        if kind not in self.kept:
            if rows + sum(other.rows for other in self.kept) > self.size:
                self.kept.clear()  # free their memory before allocating more
            self.kept[kind] = Batch(self.network, self.vocabulary, kind, self.graphs)
        return self.kept[kind]


def hopeless(made: list[Result], options: Options) -> bool:
    """Whether a higher temperature is unlikely to help: the last raise made improbable text less probable."""
    ratio = options.compression_ratio_threshold
    improbable = all(ratio is None or result.compression_ratio <= ratio for result in made[-2:])
    return len(made) > 1 and improbable and made[-1].avg_logprob < made[-2].avg_logprob


def best(made: list[Result], options: Options) -> Result:
    """The result to keep of a window's tries: the last if it passes, else the most probable.

    Repetitive results are considered only if all are. So does faster-whisper; openai/whisper keeps the last.
    """
    if not made[-1].fails(options):
        return made[-1]
    ratio = options.compression_ratio_threshold
    varied = [result for result in made if ratio is None or result.compression_ratio <= ratio]
    return max(reversed(varied or made), key=lambda result: result.avg_logprob)


def parts(items: list[Item], most: int) -> Iterator[list[Item]]:
    """Split items into as few parts of at most `most` as possible, and of nearly equal size."""
    size = -(-len(items) // -(-len(items) // most))
    return (items[i : i + size] for i in range(0, len(items), size))


def limit(network: Whisper, prompt: int) -> int:
    """The maximum number of tokens after a prompt of `prompt` tokens, as in openai/whisper."""
    positions = network.dims.max_target_positions
    return min(positions // 2, positions - prompt + 1)


def capacity(network: Whisper, prompt: int) -> int:
    """Positions that a cache should have: rounded up, as each different size needs a graph of its own."""
    needed = prompt + limit(network, prompt) - 1  # the last token is never fed back
    return min(-(-needed // 64) * 64, network.dims.max_target_positions)


class Kind(NamedTuple):
    """The properties by which a kept batch is found."""

    rows: int
    capacity: int  # of the cache, in tokens
    timestamps: bool


class Batch:
    """N rows that are decoded together, and the tensors that each step changes in place.

    It decodes up to N windows: rows without a window count as ended from the start.
    """

    def __init__(self, network: Whisper, vocabulary: Vocabulary, kind: Kind, graphs: Graphs) -> None:
        self.network, self.vocabulary, self.kind = network, vocabulary, kind
        rows, device = kind.rows, network.device
        self.captured = graphs.working
        self.filters = LogitFilters(vocabulary, network.dims.vocab_size, device, timestamps=kind.timestamps)
        self.cache = network.cache(rows, kind.capacity)
        self.history = History.empty(rows, device)
        self.tokens = torch.empty((rows, network.dims.max_target_positions), dtype=torch.long, device=device)
        self.newest = torch.empty((rows, 1), dtype=torch.long, device=device)
        self.sums = torch.empty(rows, device=device)  # log-probability of all tokens
        self.ended = torch.empty(rows, dtype=torch.bool, device=device)
        self.at = torch.empty(1, dtype=torch.long, device=device)  # position of the newest token
        self.count = torch.empty(1, dtype=torch.long, device=device)  # tokens decoded so far
        self.temperature = torch.empty(1, device=device)
        self.step = Step(graphs)

    def begin(self, features: Tensor, prompt: list[int], temperature: float = 0.0) -> list[float]:
        """Decode the first token of each window of `features` [up to N, positions, d].

        Returns their probabilities of no speech, 0 to 1.
        """
        self.used = len(features)
        self.network.prefill_cross(features, self.cache)
        if self.captured:  # the graph reads the whole cache, where a leftover NaN survives a weight of 0
            self.cache.self_kv.zero_()
        tokens = torch.tensor([prompt] * self.kind.rows, device=self.at.device)
        start = prompt.index(self.vocabulary.start)
        at_start, logits = self.network.decode(tokens, self.cache, where=[start, -1]).unbind(dim=1)
        self.at.fill_(len(prompt) - 1)
        self.count.zero_()
        self.tokens.fill_(self.vocabulary.end)
        self.sums.zero_()
        self.ended.fill_(False)
        self.ended[self.used :] = True
        self.temperature.fill_(temperature)
        self.sampled = temperature > 0 or self.captured  # one graph serves all temperatures
        self.history.clear()
        self.limit = limit(self.network, len(prompt))
        self._choose(self.filters.first_step(logits))
        if self.vocabulary.no_speech is None:
            return [0.0] * self.used
        no_speech = at_start[: self.used].softmax(dim=-1)[:, self.vocabulary.no_speech]
        return [float(p) for p in no_speech.nan_to_num(nan=0.0).tolist()]

    def finish(self) -> list[tuple[list[int], float]]:
        """Decode to the end: each window's tokens, padded after the end token, and their log-probability."""
        for count in range(1, self.limit):
            if count % CHECK_EVERY == 0 and self.ended.all():
                break
            self.step(self._step)
        sums = self.sums[: self.used].nan_to_num(nan=LEAST)  # a NaN fails every threshold
        return list(zip(self.tokens[: self.used, : self.limit].tolist(), sums.tolist(), strict=True))

    def _step(self) -> None:
        """Decode one more token of each row."""
        if self.captured:
            logits = self.network.step(self.newest, self.at, self.cache)
        else:  # without a graph, attending only to the filled part of the cache is cheaper
            logits = self.network.decode(self.newest, self.cache)[:, 0]
        self._choose(self.filters(logits, self.history))

    def _choose(self, logits: Tensor) -> None:
        """Choose a token for each row from filtered logits [N, vocab_size], and update all tensors."""
        logprobs = logits.log_softmax(dim=-1)
        scores = logprobs
        if self.sampled:
            # The Gumbel-max trick: a sample of softmax(logprobs / temperature) without a sync with the host.
            # At temperature 0 it is the most probable token; the noise must be finite, as 0 * inf is NaN.
            noise = torch.empty_like(logprobs).exponential_().clamp_(min=SMALLEST).log_()
            scores = logprobs - self.temperature * noise
        chosen = scores.argmax(dim=-1, keepdim=True)
        self.sums += logprobs.gather(1, chosen)[:, 0].masked_fill(self.ended, 0)
        self.newest.copy_(chosen.masked_fill(self.ended[:, None], self.vocabulary.end))
        self.ended |= self.newest[:, 0] == self.vocabulary.end
        self.tokens.index_copy_(1, self.count, self.newest)
        self.history.add(self.newest, self.vocabulary.first_timestamp)
        self.at += 1
        self.count += 1
