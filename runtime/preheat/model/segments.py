"""From the tokens of a window to segments of the recording: where each begins and ends."""

from preheat.audio.constants import ENCODER_STRIDE, FRAMES_PER_SECOND
from preheat.model.decoding import Result
from preheat.model.vocabulary import Vocabulary
from preheat.transcript import Segment


def closed(vocabulary: Vocabulary, result: Result) -> bool:
    """Whether a window's text ends with a single timestamp: no speech follows it."""
    stamped = [token >= vocabulary.first_timestamp for token in result.tokens[-2:]]
    return stamped == [False, True]


def cut(
    vocabulary: Vocabulary, result: Result, seek: int, length: int, *, textless: bool = False
) -> tuple[list[Segment], int]:
    """The segments of a window, and how many of its `length` frames they cover; decoding goes on there.

    A segment ends at two adjacent timestamps: its end, and the start of the next segment. A segment that is
    cut off by the end of the window is left to the next window. Segments without text are dropped unless
    `textless`.
    """
    tokens = result.tokens
    stamps = [token - vocabulary.first_timestamp for token in tokens]  # negative: not a timestamp
    ends = [i for i in range(1, len(stamps)) if stamps[i - 1] >= 0 and stamps[i] >= 0]
    settled = length
    if not ends or closed(vocabulary, result):
        ends.append(len(tokens))
    else:
        settled = stamps[ends[-1] - 1] * ENCODER_STRIDE
    segments = []
    for begin, end in zip([0, *ends], ends, strict=False):
        text = vocabulary.text(tokens[begin:end])
        times = [stamp * ENCODER_STRIDE for stamp in stamps[begin:end] if stamp >= 0]
        first, last = times[0] if times else 0, times[-1] if len(times) > 1 else length
        if not text.strip() and len(times) == 1:  # nothing is said up to this timestamp
            first, last = 0, times[0] or length
        first, last = (seek + min(time, length) for time in (first, last))  # not beyond the recording
        if textless or text.strip():
            segments.append(
                Segment(
                    seek=seek,
                    start=first / FRAMES_PER_SECOND,
                    end=last / FRAMES_PER_SECOND,
                    text=text,
                    tokens=tokens[begin:end],
                    temperature=result.temperature,
                    avg_logprob=result.avg_logprob,
                    compression_ratio=result.compression_ratio,
                    no_speech_prob=result.no_speech_prob,
                )
            )
    return segments, settled
