"""How loud a recording is, for a detector of speech that hears levels as they are.

silero-vad finds the same speech at any usual level, and loses words of what is quieter than that. Noise it
takes for speech at no level (the tests show both). So what is quiet is made louder, for its ears only: each
second by how loud the half minute around it is, so that one loud stretch, or a knock on the microphone,
leaves nobody else unheard.
"""

import numpy as np
from numpy.typing import NDArray

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples, Sound

LEAST_LEVEL = 0.01  # root mean square of the louder seconds, -40 dBFS: as loud as quiet is made
MOST_GAIN = 1000.0  # 60 dB: what lies lower is rounding
AROUND = 15  # s before and after that count
STEPS = np.linspace(0, 1, SAMPLE_RATE, endpoint=False, dtype=np.float32)  # of a second, by sample
LOUDEST_OUT = 2  # seconds left out of these: a knock is no speech


class Louder:
    """A recording made louder where it is quiet, of which parts are made when they are asked for."""

    def __init__(self, samples: Samples, gain: NDArray[np.float32]) -> None:
        """`gain`: the factor for each second."""
        self._samples = samples
        # It changes evenly, from one mean of two neighbours to the next.
        self._edges = np.convolve(np.pad(gain, 1, mode="edge"), [0.5, 0.5], mode="valid").astype(np.float32)

    def __len__(self) -> int:
        """Samples."""
        return len(self._samples)

    def __getitem__(self, part: slice) -> Samples:
        """[samples] of a part."""
        start, stop, _ = part.indices(len(self))
        second, step = np.divmod(np.arange(start, stop), SAMPLE_RATE)
        here, there = self._edges[second], self._edges[second + 1]
        made: Samples = self._samples[start:stop] * (here + (there - here) * STEPS[step])
        return made.clip(-1, 1)


def audible(samples: Samples) -> Sound:
    """[samples] at 16 kHz, where they are quiet made louder; the same array if they nowhere are."""
    whole = len(samples) // SAMPLE_RATE * SAMPLE_RATE
    parts = [*samples[:whole].reshape(-1, SAMPLE_RATE), samples[whole:]][: -(-len(samples) // SAMPLE_RATE)]
    gain = gains(np.array([np.sqrt(np.einsum("i,i", part, part) / len(part)) for part in parts]))
    return samples if (gain == 1).all() else Louder(samples, gain)


def gains(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The factor for each second, from the root mean square of each."""
    padded = np.pad(levels, AROUND, constant_values=-1)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1), axis=1)
    seconds = (around >= 0).sum(axis=1)  # that there are, near the ends fewer
    out = np.minimum(LOUDEST_OUT, (seconds - 1) // 2)
    usual = np.take_along_axis(around, -1 - out[:, None], axis=1)[:, 0]
    return np.clip(LEAST_LEVEL / np.maximum(usual, LEAST_LEVEL / MOST_GAIN), 1, None)
