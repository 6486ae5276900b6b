"""When each word is said: dynamic time warping over cross-attention, as in openai/whisper (timing.py there).

Some of the decoder's heads (the checkpoint names them) attend to the sound of the token that is about to be
written. Their attention over all tokens of a window is a matrix of tokens against time, and the cheapest path
through it says when each token begins.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preheat.audio.constants import ENCODER_STRIDE, FRAMES_PER_SECOND
from preheat.model.decoding import Decoder, parts
from preheat.model.vocabulary import Vocabulary
from preheat.model.warping import attention, token_starts
from preheat.model.whisper import Scores, Whisper
from preheat.transcript import Segment, Word

PARTS = 8  # parts in which a batch is aligned, so that each needs no more memory than encoding the batch did
LONGEST = 0.7  # s; upper limit of the median word's duration
SENTENCE_ENDS = ".。!！?？"  # noqa: RUF001  full-width ones included
BEFORE_WORD = "\"'“¿([{-"  # punctuation that belongs to the word after it
AFTER_WORD = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001  and to the word before it


@dataclass
class Timing:
    """A word of a window; times in seconds of the window."""

    text: str
    tokens: list[int]
    start: float
    end: float
    probability: float

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end - self.start


def add_words(
    decoder: Decoder,
    features: Tensor,
    windows: list[tuple[list[Segment], int]],
    language: str,
    spoken_until: float = 0.0,
) -> list[list[Segment]]:
    """The segments of windows with their words added, and with more exact times.

    `features` [B, positions, d]; `windows`: the segments of each, and its length in frames; `spoken_until`:
    when the speech before the first window ended, in seconds of the recording.
    """
    end = decoder.vocabulary.end
    texts = [[t for s in found for t in s.tokens if t < end] for found, _ in windows]
    lengths = [length for _, length in windows]
    timed: list[list[Timing]] = []
    for rows in parts(list(range(len(windows))), max(1, decoder.size // PARTS)):
        part = slice(rows[0], rows[-1] + 1)
        timed += align(decoder, features[part], texts[part], lengths[part], language)
    done = []
    for (found, _), words in zip(windows, timed, strict=True):
        placed = place(found, words, end, spoken_until) if found else []
        spoken_until = placed[-1].end if placed else spoken_until
        done.append(placed)
    return done


@torch.inference_mode()
def align(
    decoder: Decoder, features: Tensor, texts: list[list[int]], lengths: list[int], language: str
) -> list[list[Timing]]:
    """The words of each window's text tokens, with their times."""
    network, vocabulary = decoder.network, decoder.vocabulary
    prompt = vocabulary.prompt(language, decoder.options.task, timestamps=False)
    longest = max(map(len, texts))
    # Rows are padded at the end: the decoder is causal, so the padding does not change what precedes it.
    said = torch.tensor([text + [vocabulary.end] * (1 + longest - len(text)) for text in texts])
    rows = torch.cat((torch.tensor([prompt] * len(texts)), said), dim=1).to(network.device)
    cache = network.cache(len(features), capacity=rows.shape[1])
    network.prefill_cross(features, cache)
    nothing = features.new_empty(0)  # placeholder; the attention maps fail if decode does not replace it
    qk: Scores = dict.fromkeys(alignment_heads(network, vocabulary), nothing)
    first = len(prompt) - 1  # the position that predicts the first text token
    logits = network.decode(rows, cache, qk, where=slice(first, -1))
    token_probs = logits[..., : vocabulary.end].softmax(dim=-1)
    spoken = said.to(network.device).clamp(max=vocabulary.end - 1)  # padding becomes any valid index
    probabilities = token_probs.gather(2, spoken[:, :, None])[:, :, 0].nan_to_num(nan=0.0).tolist()
    sizes = [
        (len(prompt) + len(text) + 1, max(length // ENCODER_STRIDE, 1))
        for text, length in zip(texts, lengths, strict=True)
    ]
    attention_maps = attention(list(qk.values()), sizes)[:, first:-1].double().cpu().numpy()
    starts = token_starts(-attention_maps, [(tokens - 1 - first, positions) for tokens, positions in sizes])
    return [
        timings(vocabulary.words(text, language), starts[row], probabilities[row])
        for row, text in enumerate(texts)
    ]


def alignment_heads(network: Whisper, vocabulary: Vocabulary) -> list[tuple[int, int]]:
    """The (layer, head) pairs to use: the checkpoint's, else all in the later half, as in openai/whisper.

    A distilled checkpoint may list the heads of its teacher, of which it has only some, or none.
    """
    layers, heads = network.dims.decoder_layers, network.dims.decoder_attention_heads
    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    later = [(layer, head) for layer, head in every if layer >= layers // 2]
    return sorted(set(every).intersection(vocabulary.alignment_heads)) or later


def timings(
    words: list[tuple[str, list[int]]], starts: NDArray[np.intp], probabilities: list[float]
) -> list[Timing]:
    """Words with their times, from the positions where tokens begin; the last of `starts` is the end."""
    seconds = (starts * ENCODER_STRIDE / FRAMES_PER_SECOND).tolist()
    bounds = np.cumsum([0, *(len(tokens) for _, tokens in words)]).tolist()
    return [
        Timing(text, tokens, seconds[i], seconds[j], float(np.mean(probabilities[i:j])))
        for (text, tokens), (i, j) in zip(words, pairwise(bounds), strict=True)
    ]


def place(found: list[Segment], timed: list[Timing], end: int, spoken_until: float) -> list[Segment]:
    """The segments of one window with its words added; implausible times are corrected as in openai/whisper.

    `end`: the first token that is not text.
    """
    usual = usual_seconds(timed)
    if usual:
        shorten_at_sentence_ends(timed, 2 * usual)
    join_punctuation(timed)
    offset = found[0].seek / FRAMES_PER_SECOND
    placed = []
    rest = iter(timed)
    for segment in found:
        words: list[Word] = []
        missing = sum(token < end for token in segment.tokens)
        while missing > 0 and (timing := next(rest, None)):
            missing -= len(timing.tokens)
            if timing.text:
                start, last = round(offset + timing.start, 2), round(offset + timing.end, 2)
                words.append(Word(timing.text, start, last, timing.probability))
        placed.append(fit(segment, words, usual, spoken_until) if words else replace(segment, words=[]))
        spoken_until = placed[-1].end if words else spoken_until
    return placed


def usual_seconds(timed: list[Timing]) -> float:
    """The median duration of a word, at most LONGEST; 0 without words."""
    spans = [word.seconds for word in timed if word.seconds]
    return min(LONGEST, float(np.median(spans))) if spans else 0.0


def shorten_at_sentence_ends(timed: list[Timing], longest: float) -> None:
    """Alignment adds a pause between sentences to the full stop or to the next word: shorten these."""
    for previous, word in pairwise(timed):
        if word.seconds > longest:
            if word.text in SENTENCE_ENDS:
                word.end = word.start + longest
            elif previous.text in SENTENCE_ENDS:
                word.start = word.end - longest


def join_punctuation(timed: list[Timing]) -> None:
    """Merge punctuation into its word; its own entry is left without text and tokens."""
    following = len(timed) - 1
    for i in range(len(timed) - 2, -1, -1):
        if timed[i].text.startswith(" ") and timed[i].text.strip() in BEFORE_WORD:
            timed[following].text = timed[i].text + timed[following].text
            timed[following].tokens = timed[i].tokens + timed[following].tokens
            timed[i].text, timed[i].tokens = "", []
        else:
            following = i
    previous = 0
    for i in range(1, len(timed)):
        if not timed[previous].text.endswith(" ") and timed[i].text in AFTER_WORD:
            timed[previous].text += timed[i].text
            timed[previous].tokens = timed[previous].tokens + timed[i].tokens
            timed[i].text, timed[i].tokens = "", []
        else:
            previous = i


def fit(segment: Segment, words: list[Word], usual: float, spoken_until: float) -> Segment:
    """The segment with its words, from the first to the last; implausibly long ones are shortened."""
    first, longest = words[0], 2 * usual
    if first.end - spoken_until > 4 * usual and (
        first.end - first.start > longest or (len(words) > 1 and words[1].end - first.start > 2 * longest)
    ):  # the pause before the first words was counted as part of them
        if len(words) > 1 and words[1].end - words[1].start > longest:
            boundary = max(words[1].end / 2, words[1].end - longest)
            first, words[1] = replace(first, end=boundary), replace(words[1], start=boundary)
        first = replace(first, start=max(0.0, first.end - longest))
    start, end = first.start, words[-1].end if len(words) > 1 else first.end
    if segment.start < first.end and segment.start - 0.5 > first.start:
        first = replace(first, start=max(0.0, min(first.end - usual, segment.start)))
        start = segment.start
    words[0] = first
    last = words[-1]
    if segment.end > last.start and segment.end + 0.5 < last.end:
        words[-1] = replace(last, end=max(last.start + usual, segment.end))
        end = segment.end
    return replace(segment, start=start, end=end, words=words)
