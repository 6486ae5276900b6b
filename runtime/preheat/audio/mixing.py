"""Mixes and resamples blocks of decoded sound to mono at 16 kHz, for both readers."""

from typing import Any, NoReturn, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from preheat.audio.constants import SAMPLE_RATE
from preheat.storage import InputError

# What a header may claim. Speech needs 2 kHz; a header with values out of these ranges is forged or damaged,
# and following it could turn a few bytes into gigabytes of samples.
RATES = range(2000, 768_001)  # Hz
CHANNELS = range(1, 65)
LONGEST = 24 * 3600  # s; 5.5 GB as samples

Samples = NDArray[np.float32]


class Sound(Protocol):
    """[samples] at 16 kHz that can be sliced: an array, or an object that computes a slice on access."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Any: ...


class Mixer:
    """Mixes and resamples a recording of one rate and number of channels to mono at 16 kHz.

    Unless a single channel is asked for, it takes the mean of the channels. Where they cancel each other,
    because one has inverted polarity (a microphone with swapped wires), channels are inverted first so that
    they add up.
    """

    def __init__(self, rate: int, channels: int, channel: int = 0) -> None:
        """`rate` in Hz; `channel`: number of the channel to take, from 1, silent if missing; 0: all.

        Raises InputError if rate or channels are out of range.
        """
        check(rate, channels)
        self.format = (rate, channels)
        self._channel = channel
        self._signs = np.ones(channels, np.float32)
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def mix(self, block: Samples) -> Samples:
        """[n, channels] → the [samples] that are ready; most efficient with blocks of a second or more."""
        ready: Samples = self._resampler.resample_chunk(self._mono(block))
        return ready

    def rest(self) -> Samples:
        """The last samples, which the resampler still holds."""
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
    """The sign of each channel, [channels], so that they add up; from their products [channels, channels].

    In order of loudness, each channel takes the sign that does not reduce the energy of the sum so far, so
    that the energy of the sum is at least the sum of the channels' energies.
    """
    signs = np.zeros(len(energies), np.float32)
    for channel in np.argsort(-energies.diagonal(), kind="stable"):
        signs[channel] = 1 if signs @ energies[channel] >= 0 else -1
    return signs


def check(rate: int, channels: int) -> None:
    """Raise InputError if rate (Hz) or channels are out of range."""
    if rate not in RATES:
        raise InputError(
            f"has a sample rate of {rate:,} Hz, outside {RATES[0]:,} to {RATES[-1]:,} Hz; "
            "its header is damaged: export it again from its source"
        )
    if channels not in CHANNELS:
        raise InputError(f"has {channels:,} channels, the limit is {CHANNELS[-1]}; export it with fewer")


def too_long(seconds: float) -> NoReturn:
    """Raise InputError for a recording of `seconds`, which is too long."""
    raise InputError(
        f"is {seconds / 3600:,.0f} hours long or longer, the limit is {LONGEST // 3600} hours; split it"
    )
