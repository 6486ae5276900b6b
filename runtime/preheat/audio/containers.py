"""Recordings of every kind that FFmpeg's libraries read (https://pyav.basswood-io.com), as far as they go.

This runs in a process of its own (isolation.py), and it alone decides whether a recording is whole: what it
cannot decode, what the file's structure lacks (parts.py), and what its header claims beyond what is there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import av
import av.logging
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.frames import HEAD, frame_size
from preheat.audio.mixing import LONGEST, Mixer, Samples, too_long
from preheat.audio.parts import Part, parts
from preheat.storage import InputError

# Of FFmpeg's formats those that hold recordings. Others are playlists and session descriptions, by which a
# file could make this machine open other files or connections.
FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,dsf,dss,dts,eac3,flac,flv,gsm,ircam,iff,loas,matroska,webm,"
    "mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,paf,qcp,rm,sln,sox,tak,tta,voc,"
    "w64,wav,wsaud,wv,wtv,xwma"
)
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
NO_RECORDING = "is not a recording, or damaged at its start; give a wav, flac, mp3, m4a, ogg or webm file"
NO_START = "is cut short, so that nothing of it can be read (mp4 and m4a end with their index); copy it again"
EXACT = ("pcm_", "flac", "alac", "wavpack", "tta")  # codecs that give back what they were given
CHUNKED = ("wav", "aiff", "w64", "caf")  # FFmpeg's names of the formats that parts.py takes apart by chunks
BARE = ("mp3", "aac")  # formats that are nothing but frames, which tell their own size
GUESSED = "Estimating duration from bitrate"  # what FFmpeg logs where a length is none that the file claims
ENDED = "File ended prematurely"  # and where matroska's structure is cut short
BROKEN = ("CRC mismatch", "invalid as first byte of an EBML number")  # and where pages or blocks are damaged
HOLE = 4096  # bytes
TOLERATED = 0.25  # s that a claim may be beyond the end: what encoders add and decoders leave out
GAP = 0.1  # s of sound that may be undecodable in all: where mp3 files were joined, a frame is
TRIES = 10  # times that a damaged file is asked for its next packet


@dataclass
class View:
    """A part of a file as a file of its own; it has no name by which FFmpeg could guess what it is."""

    file: BinaryIO
    part: Part
    at: int = 0

    def read(self, size: int) -> bytes:
        """As of any file."""
        start = self.part.start + self.at
        if start >= self.part.end:  # a header may point anywhere
            return b""
        self.file.seek(start)
        content = self.file.read(max(min(size, self.part.end - start), 0))
        self.at += len(content)
        for offset, patch in self.part.patch.items():
            if start <= offset <= start + len(content) - len(patch):
                content = content[: offset - start] + patch + content[offset - start + len(patch) :]
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        self.at = max(offset + (0, self.at, self.part.end - self.part.start)[whence], 0)
        return self.at

    def tell(self) -> int:
        """As of any file."""
        return self.at


@dataclass
class Course:
    """How decoding one part went, in seconds of sound."""

    claimed: float = 0.0  # by its header; 0 if it claims nothing
    reached: float = 0.0  # by the clocks of all streams that the claim is for
    clocked: float = 0.0  # by the clock of the sound alone, from its start
    decoded: float = 0.0
    lost: float = 0.0  # what could not be decoded before what could
    failing: float = 0.0  # what could not be decoded since
    partial: bool = False  # the last packet so far is not whole
    cut: bool = False  # by the structure of the file
    damaged: bool = False  # by the structure, too
    exact: bool = False  # its codec gives back what it was given, to the sample
    gapless: bool = False  # what its clock leaves out is missing, and no silence that nobody wrote
    zeros: int = 0  # bytes, where frames should be: a hole, as failing disks and downloads leave it

    def problem(self, before: float) -> str | None:
        """What is missing, None if nothing is; `before`: seconds of the parts before this one."""
        of = f" of {before + self.claimed:.1f} s" if self.claimed else ""
        there = f"{before + self.decoded:.1f} s{of}"
        if self.cut or self.partial or self.failing > 0:
            return f"is cut short after {there}"
        if self.claimed - self.reached > (0.01 if self.exact else TOLERATED):
            return f"is cut short or damaged: {there} are there"
        lost = self.lost + (self.clocked - self.decoded if self.gapless else 0)
        if self.damaged or self.zeros > HOLE or lost > (0.01 if self.exact else GAP):
            return f"is damaged: some of its sound is missing, {there} are there"
        return None


@dataclass
class Sink:
    """Where frames of changing formats become samples at 16 kHz, written to `output`."""

    output: BinaryIO
    alive: Callable[[], None]  # to be told now and then that decoding goes on
    channel: int = 0  # as of Mixer
    channels: int = 0  # at most, so far
    samples: int = 0
    mixer: Mixer | None = None
    waiting: AudioFifo = field(default_factory=AudioFifo)  # less than a second

    @property
    def seconds(self) -> float:
        """Of sound, so far."""
        waiting = self.waiting.samples / self.mixer.format[0] if self.mixer else 0
        return self.samples / SAMPLE_RATE + waiting

    def add(self, frame: AudioFrame) -> None:
        """Take a frame. Raises InputError for what no recording of speech has."""
        found = (frame.sample_rate, frame.layout.nb_channels)
        if self.mixer is None or self.mixer.format != found or self.waiting.format.name != frame.format.name:
            self.end()
            self.mixer = Mixer(*found, self.channel)
            self.channels = max(self.channels, found[1])
        frame.pts = None  # or where time jumps the queue refuses it
        self.waiting.write(frame)
        if self.waiting.samples >= frame.sample_rate:
            self.mix()
            self.alive()

    def mix(self) -> None:
        """Write what waits."""
        if self.mixer and (block := self.waiting.read()):
            self.write(self.mixer.mix(floats(block)))

    def end(self) -> None:
        """Write all of the format so far."""
        self.mix()
        if self.mixer:
            self.write(self.mixer.rest())
        self.mixer, self.waiting = None, AudioFifo()

    def write(self, samples: Samples) -> None:
        """Write samples. Raises InputError if they are too many."""
        self.samples += len(samples)
        if self.samples > LONGEST * SAMPLE_RATE:
            too_long(self.samples / SAMPLE_RATE)
        self.output.write(samples.data)


av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)  # or of several parts only the first would be known to be guessed


def decode(
    file: BinaryIO, output: BinaryIO, alive: Callable[[], None], track: int = 0, channel: int = 0
) -> dict[str, Any]:
    """Write the samples of a recording to `output`.

    Reports what is `incomplete` of it, None if nothing is, and how many `channels` it has. `alive` is called
    now and then as long as it goes on. `track`: which one of several, from 1 on; 0: the one that FFmpeg takes
    for the main one. `channel`: as of Mixer. Raises InputError if there is nothing to decode.
    """
    sink = Sink(output, alive, channel)
    errors: list[InputError] = []
    problems = []
    for part in parts(file):
        before = sink.seconds
        try:
            course = decode_part(View(file, part), sink, track)
        except InputError as error:
            errors.append(error)
            course = Course(cut=True)
        problems.append(course.problem(before))
    if sink.samples == 0 and errors:
        raise errors[0]
    output.flush()
    found = next(filter(None, problems), None)
    incomplete = found and f"{found}; copy it again, or export it from its source"
    return {"incomplete": incomplete, "channels": sink.channels}


def decode_part(view: View, sink: Sink, track: int) -> Course:
    """Decode one recording into `sink`. Raises InputError."""
    course = Course(cut=view.part.cut, damaged=view.part.damaged)
    before = sink.seconds
    with av.logging.Capture(local=False) as log:
        try:
            container = av.open(view, "r", options=OPTIONS, metadata_errors="ignore")
        except av.FFmpegError as error:
            raise InputError(NO_START if course.cut else NO_RECORDING) from error
        with container:
            tracks = container.streams.audio
            if track > len(tracks) > 0:
                has = "one audio track" if len(tracks) == 1 else f"{len(tracks)} audio tracks"
                raise InputError(f"has {has}; give --audio_track another number, or leave it out")
            stream = tracks[track - 1] if track and tracks else container.streams.best("audio")
            if not isinstance(stream, AudioStream):
                raise InputError(NO_START if course.cut else "holds no sound; give a recording that does")
            if stream.codec_context is None:
                raise InputError("holds sound of a kind that nothing here decodes; export it as flac")
            stream.codec_context.thread_count = 1
            course.exact = stream.codec_context.name.startswith(EXACT)
            course.gapless = course.exact and (container.format.name == "flac" or stream.duration is not None)
            # Fractions as Python has them, made for each packet, would take as long as decoding.
            ticks: dict[int, float] = {}  # s, by stream; in some formats streams come up as late as they like
            start = float((stream.start_time or 0) * (stream.time_base or 0))
            for packet in packets(container, course):
                tick = ticks.get(packet.stream_index) or float(packet.time_base or 0)
                ticks[packet.stream_index] = tick
                end = ((packet.pts or 0) + (packet.duration or 0)) * tick
                if packet.stream_index == stream.index:
                    decode_packet(packet, container.format.name, course, sink)
                if packet.is_corrupt or course.failing:
                    continue
                if packet.stream_index == stream.index:
                    course.clocked = max(course.clocked, end - start)
                course.reached = max(course.reached, end)
            sink.end()
            course.decoded = sink.seconds - before
            course.clocked = max(course.clocked, course.decoded)
            # A length of this stream counts from its start, that of all of them from 0.
            course.reached = (
                course.clocked if stream.duration is not None else max(course.reached, course.clocked)
            )
            messages = [message for _, _, message in log]
            course.cut = course.cut or any(ENDED in message for message in messages)
            course.damaged = course.damaged or any(mark in message for mark in BROKEN for message in messages)
            if not any(GUESSED in message for message in messages):
                course.claimed = claim(container, stream)
    return course


def packets(container: InputContainer, course: Course) -> Iterator["Packet[Any]"]:
    """All packets of all streams; beyond what is damaged if need be."""
    for _ in range(TRIES):
        try:
            yield from container.demux()
        except (av.FFmpegError, IndexError):  # the latter where a stream comes up that PyAV does not know of
            continue
        return
    course.cut = True


def decode_packet(packet: "Packet[Any]", container: str, course: Course, sink: Sink) -> None:
    """Decode a packet of sound into `sink`."""
    if packet.size:  # the last one is empty: it has the decoder give out what it holds back
        frame = frame_size(bytes(packet)) if container in BARE else packet.size
        if frame == 0:  # a tag, mostly
            if not any(bytes(packet)):
                course.zeros += packet.size
            return
        # Of a file of chunks parts.py knows more: where the length is unknown, the last packet is never full.
        course.partial = packet.size < frame or (packet.is_corrupt and container not in CHUNKED)
    try:
        frames = packet.decode()
    except MemoryError:  # FFmpeg's own, too, which is an FFmpegError as well
        raise
    except av.FFmpegError:
        if container in CHUNKED and packet.size < HEAD:  # what makes the length even
            return
        course.failing += float((packet.duration or 0) * (packet.time_base or 0)) or GAP
        return
    for each in frames:
        if isinstance(each, AudioFrame):
            sink.add(each)
    if frames:
        course.lost += course.failing
        course.failing = 0


def claim(container: InputContainer, stream: AudioStream) -> float:
    """The seconds of sound that a header claims; 0 if it claims nothing."""
    if container.format.name == "ogg":  # FFmpeg takes the time of the last page there is
        return 0
    if stream.duration is not None:  # of an avi file FFmpeg lessens it to what is there, but not this number
        return float(max(stream.duration, stream.frames) * (stream.time_base or 0))
    return (container.duration or 0) / av.time_base


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
