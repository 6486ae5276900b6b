"""Raises the level of quiet recordings for the speech detector, which does not normalise its input.

silero-vad finds the same speech at any usual level, but loses words in quieter recordings. It does not take
noise for speech at any level (the tests show both). So quiet parts are amplified, for the detector only. The
gain of each second depends on the half minute around it, so that a loud passage or a knock on the microphone
does not hide quiet speech elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples, Sound

LEAST_LEVEL = 0.01  # root mean square, -40 dBFS, to which the louder seconds of a quiet part are raised
MOST_GAIN = 1000.0  # 60 dB: anything still quieter is rounding noise
AROUND = 15  # s before and after a second that determine its gain
STEPS = np.linspace(0, 1, SAMPLE_RATE, endpoint=False, dtype=np.float32)  # time within a second, by sample
LOUDEST_OUT = 2  # loudest seconds of these to ignore: a knock is not speech


class Amplified:
    """A recording amplified where it is quiet; parts are computed on access."""

    def __init__(self, samples: Samples, gain: NDArray[np.float32]) -> None:
        """`gain`: the factor for each second."""
        self._samples = samples
        # The gain at each boundary of two seconds is their mean; between boundaries it changes linearly.
        self._edges = np.convolve(np.pad(gain, 1, mode="edge"), [0.5, 0.5], mode="valid").astype(np.float32)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, part: slice) -> Samples:
        """[samples] of a part."""
        start, stop, _ = part.indices(len(self))
        second, step = np.divmod(np.arange(start, stop), SAMPLE_RATE)
        here, there = self._edges[second], self._edges[second + 1]
        made: Samples = self._samples[start:stop] * (here + (there - here) * STEPS[step])
        return made.clip(-1, 1)


def audible(samples: Samples) -> Sound:
    """[samples] at 16 kHz, amplified where they are quiet; the same array if they are quiet nowhere."""
    whole = len(samples) // SAMPLE_RATE * SAMPLE_RATE
    parts = [*samples[:whole].reshape(-1, SAMPLE_RATE), samples[whole:]][: -(-len(samples) // SAMPLE_RATE)]
    gain = gains(np.array([np.sqrt(np.einsum("i,i", part, part) / len(part)) for part in parts]))
    return samples if (gain == 1).all() else Amplified(samples, gain)


def gains(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The gain of each second, from the root mean square of each."""
    padded = np.pad(levels, AROUND, constant_values=-1)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1), axis=1)
    seconds = (around >= 0).sum(axis=1)  # in each neighbourhood: fewer near the ends
    out = np.minimum(LOUDEST_OUT, (seconds - 1) // 2)
    usual = np.take_along_axis(around, -1 - out[:, None], axis=1)[:, 0]
    return np.clip(LEAST_LEVEL / np.maximum(usual, LEAST_LEVEL / MOST_GAIN), 1, None)
