"""Finds the speech in a recording, and cuts it into windows at silences.

The voice-activity detector is silero-vad's network (https://github.com/snakers4/silero-vad), run by
onnxruntime over minutes of sound at a time. Nothing here needs torch: it runs while torch is being imported.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preheat.audio.constants import CHUNK_SECONDS, SAMPLE_RATE
from preheat.audio.mixing import Samples, Sound
from preheat.options import Options
from preheat.threads import share

# Otherwise onnxruntime sends telemetry to its vendor and keeps a machine id in ~/.cache. Read on import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

FRAME = 512  # samples for each of which the detector gives one probability: 32 ms
CONTEXT = 64  # samples before a frame that the detector gets with it
PIECE = 3750  # frames in one call, two minutes: calls for many pieces run in parallel on all cores
WARM_UP = 125  # frames before a piece, 4 s, that bring the LSTM's state close to that of an uninterrupted run

# More sensitive than silero-vad's own defaults: a lost word is worse than some decoded silence.
DEFAULTS = Options()
NEG_OFFSET, NEG_FLOOR = 0.1, 0.01  # speech ends below vad_threshold - NEG_OFFSET, but at least NEG_FLOOR
SPEECH_PAD = 0.3  # s of sound kept on both sides of speech, for its soft beginnings and ends

LONGEST_SILENCE = 1.5  # s within a window
LATE = 2 / 3  # of a window: it is cut after this part of it, so that there are not too many windows


class Span(NamedTuple):
    """A part of a recording: its first sample and the one after its last."""

    start: int
    end: int


@dataclass
class Detector:
    """silero-vad's network, ready to run."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls) -> "Detector":
        """From the package's folder; the package itself is not imported, as that would import torch."""
        spec = find_spec("silero_vad")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("silero-vad is not installed; install the venv from its lock file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # calls run in parallel, each on one core
        network = Path(spec.origin).parent / "data" / "silero_vad_16k_sequence.onnx"
        return cls(onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"]))

    def probabilities(self, sound: Sound) -> NDArray[np.float32]:
        """The probability of speech in each FRAME of a recording at 16 kHz; the last one is zero-padded."""
        frames = -(-len(sound) // FRAME)
        found = np.empty(frames, np.float32)
        memory = np.zeros((1, 1, 128), np.float32)

        def listen(pieces: Iterator[int]) -> None:
            for at in pieces:
                first = max(at - WARM_UP, 0)
                heard = np.ascontiguousarray(framed(sound, first, min(at + PIECE, frames)))
                inputs = {"input": heard, "h": memory, "c": memory}
                (probabilities,) = self.session.run(["speech_probs"], inputs)
                found[at : at + PIECE] = probabilities.reshape(-1)[at - first :]

        share(range(0, frames, PIECE), listen, os.cpu_count() or 1)
        return found


def framed(sound: Sound, first: int, last: int) -> Samples:
    """Frames of a recording, each with the CONTEXT before it: [last - first, CONTEXT + FRAME]."""
    start, stop = first * FRAME - CONTEXT, last * FRAME
    padded = np.zeros(stop - start, np.float32)
    there = sound[max(start, 0) : stop]
    padded[max(-start, 0) :][: len(there)] = there
    return np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]


def spoken(probabilities: NDArray[np.float32], samples: int, options: Options = DEFAULTS) -> list[Span]:
    """The spans of speech in a recording of `samples` samples: padded, in order, without overlap."""
    shortest = options.vad_min_silence_duration_ms * SAMPLE_RATE / 1000
    margin = round(SPEECH_PAD * SAMPLE_RATE)
    found: list[Span] = []
    for start, end in runs(probabilities, options.vad_threshold):
        if found and start * FRAME - found[-1].end < shortest:
            found[-1] = Span(found[-1].start, end * FRAME)
        else:
            found.append(Span(start * FRAME, end * FRAME))
    # Where two paddings would overlap, each gets half of the silence.
    edges = [0, *((a.end + b.start) // 2 for a, b in pairwise(found)), samples]
    return [
        Span(max(start - margin, edges[i]), min(end + margin, edges[i + 1]))
        for i, (start, end) in enumerate(found)
    ]


def runs(probabilities: NDArray[np.float32], threshold: float) -> Iterator[tuple[int, int]]:
    """First frame of each run of speech, and the one after its last; with hysteresis."""
    neg_threshold = max(threshold - NEG_OFFSET, NEG_FLOOR)
    start: int | None = None
    for frame, probability in enumerate(probabilities.tolist()):
        if start is None and probability >= threshold:
            start = frame
        elif start is not None and probability < neg_threshold:
            yield start, frame
            start = None
    if start is not None:
        yield start, len(probabilities)


def windows(speech: list[Span], longest: float = CHUNK_SECONDS, *, first_whole: bool = False) -> list[Span]:
    """Pack speech into windows of up to `longest` seconds, each cut at the longest silence in its last third.

    Only speech without any silence makes a longer window. A silence over LONGEST_SILENCE always ends a
    window: in it, Whisper would only hallucinate. With `first_whole` it does not end the first window, from
    which the language is detected: a lone "hm" before a pause would decide it.
    """
    longest *= SAMPLE_RATE
    pauses = [b.start - a.end for a, b in pairwise(speech)]  # after each span but the last
    near = [pause <= LONGEST_SILENCE * SAMPLE_RATE for pause in pauses] + [False]
    fits = [pause <= longest for pause in pauses] + [False]  # otherwise no window can hold both sides of it
    packed: list[Span] = []
    first = 0
    while first < len(speech):
        goes_on = fits if first_whole and not packed else near
        start = speech[first].start
        last = first
        while goes_on[last] and speech[last + 1].end - start <= longest:
            last += 1
        if goes_on[last]:  # no end at a long silence: the next span does not fit
            late = [i for i in range(first, last + 1) if speech[i].end - start > LATE * longest]
            last = max(late, default=last, key=pauses.__getitem__)
        packed.append(Span(start, speech[last].end))
        first = last + 1
    return packed


def heard(speech: list[Span], within: Span) -> int:
    """How many samples of a span are speech."""
    return sum(max(0, min(s.end, within.end) - max(s.start, within.start)) for s in speech)
