"""Decoded frames, whatever their formats, as samples at 16 kHz."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import LONGEST, Mixer, Samples, too_long


@dataclass
class Sink:
    """Turns frames, whose format may change, into samples at 16 kHz, and writes them to `output`."""

    output: BinaryIO
    alive: Callable[[], None]  # called now and then to show that decoding goes on
    channel: int = 0  # see Mixer
    channels: int = 0  # the largest number so far
    samples: int = 0
    mixer: Mixer | None = None
    waiting: AudioFifo = field(default_factory=AudioFifo)  # frames not mixed yet, less than a second

    @property
    def seconds(self) -> float:
        """Seconds of sound so far."""
        waiting = self.waiting.samples / self.mixer.format[0] if self.mixer else 0
        return self.samples / SAMPLE_RATE + waiting

    def add(self, frame: AudioFrame) -> None:
        """Take a frame. Raises InputError if its rate or number of channels is out of range."""
        found = (frame.sample_rate, frame.layout.nb_channels)
        if self.mixer is None or self.mixer.format != found or self.waiting.format.name != frame.format.name:
            self.end()
            self.mixer = Mixer(*found, self.channel)
            self.channels = max(self.channels, found[1])
        frame.pts = None  # otherwise the queue refuses the frame if time jumps
        self.waiting.write(frame)
        if self.waiting.samples >= frame.sample_rate:
            self.mix()
            self.alive()

    def mix(self) -> None:
        """Mix and write the waiting frames."""
        if self.mixer and (block := self.waiting.read()):
            self.write(self.mixer.mix(floats(block)))

    def end(self) -> None:
        """Write what is left of the current format, and forget the format."""
        self.mix()
        if self.mixer:
            self.write(self.mixer.rest())
        self.mixer, self.waiting = None, AudioFifo()

    def write(self, samples: Samples) -> None:
        """Write samples. Raises InputError once the recording is too long."""
        self.samples += len(samples)
        if self.samples > LONGEST * SAMPLE_RATE:
            too_long(self.samples / SAMPLE_RATE)
        self.output.write(samples.data)


def floats(frame: AudioFrame) -> Samples:
    """A frame's samples, [n, channels], about -1 to 1. Raises ValueError for 64-bit integers."""
    found = frame.to_ndarray()  # [channels, n], or [1, n * channels]
    block = found.T if frame.format.is_planar else found.reshape(-1, frame.layout.nb_channels)
    samples: Samples = block.astype(np.float32)
    if block.dtype == np.uint8:
        return samples / np.float32(128) - 1
    if block.dtype.kind == "i":
        return samples / np.float32(1 << 8 * block.dtype.itemsize - 1)
    return samples
