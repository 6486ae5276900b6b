"""Batched decoding: a recording is cut at silences into windows that are decoded in parallel.

No window begins or ends within a word, so windows do not depend on each other, and no text is lost or
repeated between them. If the decoder leaves speech at the end of a window (an unfinished segment, or more
than 30 s of speech without a silence to cut at), the rest is decoded again, as a window of its own.
"""

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from preheat import memory
from preheat.audio.constants import ENCODER_STRIDE, HOP_LENGTH, SAMPLE_RATE
from preheat.audio.vad import SPEECH_PAD, Span, heard, windows
from preheat.model.alignment import add_words
from preheat.model.decoding import Decoder, parts
from preheat.model.features import log_mel
from preheat.model.language import Language, detect
from preheat.model.segments import cut
from preheat.model.whisper import Whisper
from preheat.transcript import Segment, Transcript

MOST = {"cuda": 160, "cpu": 16}  # windows at a time; more are not faster
SHARE = 0.8  # of the free memory that may be used
# Samples of speech from which the rest of a window is decoded: more than the padding that all speech has.
LEAST_SPEECH = round((SPEECH_PAD + 0.1) * SAMPLE_RATE)


Encoded = dict[Span, Tensor]  # features [positions, d]


@torch.inference_mode()
def transcribe(decoder: Decoder, samples: Tensor, speech: list[Span]) -> Transcript:
    """Transcribe the `speech` in [samples] at 16 kHz, in the language asked for or else detected."""
    samples = sent(decoder, samples)  # once, not for each window
    queue = windows(speech, decoder.options.chunk_size, first_whole=decoder.options.language is None)
    encoded: Encoded = {}
    language = spoken_language(decoder, samples, speech, queue, encoded)
    segments: list[Segment] = []
    total = sum(end - start for start, end in queue)
    while queue:
        taken = next(parts(queue, decoder.size))
        decoded = None
        try:
            decoded = decode(decoder, samples, taken, language.code, encoded)
        except Exception as error:  # its traceback keeps the batch's tensors alive: retry after this block
            if decoder.size == 1 or not memory.shortage(error):
                raise
        if decoded is None:
            decoder.shrink(len(taken))
            continue
        found, rest = decoded
        segments += found
        # The rest of a window is worth decoding only if there is speech in it.
        queue = [part for part in rest if heard(speech, part) >= LEAST_SPEECH] + queue[len(taken) :]
        if decoder.log:
            decoder.log.progress(1 - sum(end - start for start, end in queue) / total)
    segments.sort(key=lambda segment: segment.start)
    return Transcript(language.code, segments, language.probability)


def sent(decoder: Decoder, samples: Tensor) -> Tensor:
    """The samples on the device; if it is out of memory, kept batches are freed first."""
    with suppress(torch.OutOfMemoryError):
        return samples.to(decoder.network.device)
    decoder.forget()
    return samples.to(decoder.network.device)


def decode(
    decoder: Decoder, samples: Tensor, spans: list[Span], language: str, encoded: Encoded | None = None
) -> tuple[list[Segment], list[Span]]:
    """The segments of the first 30 s of each span, and the rest of each that is still to be decoded.

    `encoded`: the features of spans that have been encoded already.
    """
    options, vocabulary = decoder.options, decoder.vocabulary
    longest = decoder.network.dims.max_source_positions * ENCODER_STRIDE  # frames
    before = vocabulary.encode(options.initial_prompt) if options.initial_prompt else []
    features = encode(decoder.network, samples, spans, encoded)
    found: list[tuple[list[Segment], int]] = []
    rest = []
    results = decoder.decode(features, decoder.prompt(language, before))
    for (start, end), result in zip(spans, results, strict=True):
        length = min((end - start) // HOP_LENGTH, longest)
        segments, settled = cut(vocabulary, result, start // HOP_LENGTH, length)
        if result.silent(options):
            segments, settled = [], length
        found.append((segments, length))
        rest.append(Span(start + (settled or length) * HOP_LENGTH, end))
    if options.word_timestamps:
        return [s for segments in add_words(decoder, features, found, language) for s in segments], rest
    return [s for segments, _ in found for s in segments], rest


def encode(network: Whisper, samples: Tensor, spans: list[Span], encoded: Encoded | None = None) -> Tensor:
    """The features of the first 30 s of each span, [B, positions, d]; shorter ones are zero-padded.

    Spans in `encoded` are not encoded again.
    """
    rows = dict(encoded or {})
    if missing := [span for span in spans if span not in rows]:
        size = network.dims.max_source_positions * ENCODER_STRIDE * HOP_LENGTH
        sound = samples.new_zeros(len(missing), size)
        for row, (start, end) in zip(sound, missing, strict=True):
            part = samples[start : min(end, start + size)]
            row[: len(part)] = part
        features = network.encode(log_mel(sound, network.window, network.filters))
        if missing == spans:  # the usual case, without a copy
            return features
        rows |= zip(missing, features, strict=True)
    return torch.stack([rows[span] for span in spans])


def spoken_language(
    decoder: Decoder, samples: Tensor, speech: list[Span], queue: list[Span], encoded: Encoded
) -> Language:
    """The language asked for, else that of the first windows, or of the first 30 s if there is no speech.

    The features computed for that are put into `encoded`, for reuse.
    """
    if decoder.options.language:
        return Language(decoder.options.language)

    def asked() -> Iterator[tuple[Tensor, float]]:
        for span in queue or [Span(0, len(samples))]:
            features = encode(decoder.network, samples, [span])
            encoded[span] = features[0]
            yield features, heard(speech, span) / SAMPLE_RATE

    return detect(decoder, asked())


def needed(network: Whisper) -> int:
    """Bytes of memory for each window of a batch."""
    dims = network.dims
    cache = 2 * dims.decoder_layers * (dims.max_source_positions + dims.max_target_positions) * dims.d_model
    # The peaks: in the encoder a feed-forward layer's input, output and one copy; in the decoder the logits.
    activations = dims.max_source_positions * (3 * dims.encoder_ffn_dim + 6 * dims.d_model)
    return (cache + activations) * network.dtype.itemsize + 6 * 4 * dims.vocab_size


def affordable(network: Whisper) -> int:
    """How many windows to decode at a time, from the free memory."""
    gpu = network.device.type == "cuda"
    free = torch.cuda.mem_get_info(network.device)[0] if gpu else memory.available()
    return max(1, min(int(SHARE * free) // needed(network), MOST[network.device.type]))
