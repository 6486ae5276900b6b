"""Blocks of decoded sound → mono at 16 kHz, whichever reader they come from."""

from typing import Any, NoReturn, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from preheat.audio.constants import SAMPLE_RATE
from preheat.storage import InputError

# What a header may claim. Speech needs 2 kHz; beyond these a header is forged or damaged, and to believe it
# would make gigabytes of a few bytes.
RATES = range(2000, 768_001)  # Hz
CHANNELS = range(1, 65)
LONGEST = 24 * 3600  # s; 5.5 GB as samples

Samples = NDArray[np.float32]


class Sound(Protocol):
    """[samples] at 16 kHz, of which a part can be had: an array, or what makes one of a part."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Any: ...


class Mixer:
    """One recording of one rate and number of channels on its way to mono at 16 kHz.

    Unless one channel is asked for, the channels' mean is taken. Where that loses the sound, since one is
    another turned upside down (a microphone wired the wrong way round), they are turned round so that they
    add up.
    """

    def __init__(self, rate: int, channels: int, channel: int = 0) -> None:
        """`rate` in Hz; `channel`: the one to take, from 1 on, silence where there are fewer; 0: all.

        Raises InputError for what no recording of speech has.
        """
        check(rate, channels)
        self.format = (rate, channels)
        self._channel = channel
        self._signs = np.ones(channels, np.float32)
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def mix(self, block: Samples) -> Samples:
        """[n, channels] → what is ready of it, [samples]; best a second or more at a time."""
        ready: Samples = self._resampler.resample_chunk(self._mono(block))
        return ready

    def rest(self) -> Samples:
        """What the resampler still holds, at the end."""
        held: Samples = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return held

    def _mono(self, block: Samples) -> Samples:
        rate, channels = self.format
        if self._channel > channels:
            return np.zeros(len(block), np.float32)
        if self._channel or channels == 1:
            return np.ascontiguousarray(block[:, self._channel - 1])
        mixed = np.empty(len(block), np.float32)
        for start in range(0, len(block), rate):  # a second each
            part = block[start : start + rate]
            energies = np.einsum("ni,nj->ij", part, part)
            if self._signs @ energies @ self._signs < energies.trace() / 2:
                self._signs = aligned(energies)
            mixed[start : start + rate] = np.einsum("ni,i->n", part, self._signs / channels)
        return mixed


def aligned(energies: Samples) -> Samples:
    """The sign of each channel with which they add up, from their products [channels, channels].

    Each in turn, the loudest first, takes the sign by which it does not lessen the sum so far: the sum then
    has at least the energy of all channels together.
    """
    signs = np.zeros(len(energies), np.float32)
    for channel in np.argsort(-energies.diagonal(), kind="stable"):
        signs[channel] = 1 if signs @ energies[channel] >= 0 else -1
    return signs


def check(rate: int, channels: int) -> None:
    """Raise InputError for what no recording of speech has; `rate` in Hz."""
    if rate not in RATES:
        raise InputError(
            f"claims {rate:,} samples a second ({rate} Hz); {RATES[0]:,} to {RATES[-1]:,} can be speech; "
            "its header is damaged: export it again from its source"
        )
    if channels not in CHANNELS:
        raise InputError(f"claims {channels:,} channels; at most {CHANNELS[-1]} are read; export it again")


def too_long(seconds: float) -> NoReturn:
    """Raise InputError for a recording of `seconds`, which is too long."""
    raise InputError(
        f"has {seconds / 3600:,.0f} hours or more of sound; at most {LONGEST // 3600} are read; cut it up"
    )
