"""Sequential decoding: openai/whisper's seek loop.

Each window begins where the last complete segment of the previous window ended, so that no word is cut in
two, and has the previous text in its prompt.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor

from preheat.audio.constants import ENCODER_STRIDE, FRAMES_PER_SECOND, HOP_LENGTH, SAMPLE_RATE
from preheat.audio.vad import Span, heard
from preheat.model.alignment import add_words
from preheat.model.decoding import Decoder
from preheat.model.features import log_mel
from preheat.model.language import Language, detect
from preheat.model.segments import closed, cut
from preheat.transcript import Segment, Transcript

HOT = 0.5  # temperature above which text is not trusted as a prompt for the next window


@torch.inference_mode()
def transcribe(decoder: Decoder, samples: Tensor, speech: list[Span]) -> Transcript:
    """Transcribe [samples] at 16 kHz, in the language asked for, or else detected where there is `speech`.

    As in openai/whisper, the log-mel is that of the whole recording, and the last window is zero-padded.
    """
    network, options = decoder.network, decoder.options
    decoder.growing = options.condition_on_previous_text
    size = network.dims.max_source_positions * ENCODER_STRIDE
    mel = log_mel(F.pad(samples, (0, size * HOP_LENGTH)), network.window, network.filters)
    frames = mel.shape[-1] - size
    encoded: dict[int, Tensor] = {}  # features [1, positions, d] of windows, by the frame at which they begin

    def encode(seek: int) -> Tensor:
        length = min(size, frames - seek)
        return network.encode(F.pad(mel[None, :, seek : seek + length], (0, size - length)))

    def asked() -> Iterator[tuple[Tensor, float]]:
        for seek in range(0, frames if speech else 1, size):
            found = heard(speech, Span(seek * HOP_LENGTH, (seek + size) * HOP_LENGTH))
            if found or not speech:
                encoded[seek] = encode(seek)
                yield encoded[seek], found / SAMPLE_RATE

    language = Language(options.language) if options.language else detect(decoder, asked())
    before = decoder.vocabulary.encode(options.initial_prompt) if options.initial_prompt else []
    segments: list[Segment] = []
    seek, spoken_until = 0, 0.0
    while seek < frames:
        length = min(size, frames - seek)
        features = encoded[seek] if seek in encoded else encode(seek)
        (result,) = decoder.decode(features, decoder.prompt(language.code, before))
        if result.silent(options):
            seek += length
            continue
        # Segments without text are kept for word timestamps: openai/whisper goes on where the last one ends.
        found, settled = cut(decoder.vocabulary, result, seek, length, textless=options.word_timestamps)
        if options.word_timestamps and found:
            (found,) = add_words(decoder, features, [(found, length)], language.code, spoken_until)
            # The end of the last word may differ from the end of its segment.
            spoken_until = next((s.words[-1].end for s in reversed(found) if s.words), found[-1].end)
            if not closed(decoder.vocabulary, result) and spoken_until * FRAMES_PER_SECOND > seek:
                settled = round(spoken_until * FRAMES_PER_SECOND) - seek
        found = [segment for segment in found if segment.start < segment.end and segment.text.strip()]
        segments += found
        before += [token for segment in found for token in segment.tokens]
        if not options.condition_on_previous_text or result.temperature > HOT:
            before = []
        seek += max(settled, ENCODER_STRIDE)  # at least one step, to avoid an endless loop
        if decoder.log:
            decoder.log.progress(min(seek, frames) / frames)
    return Transcript(language.code, segments, language.probability)
