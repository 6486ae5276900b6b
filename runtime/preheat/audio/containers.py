"""Decodes every format that FFmpeg's libraries read, through PyAV (https://pyav.basswood-io.com).

Truncated and damaged files are decoded as far as possible. This runs in a separate process (isolation.py).
It decides whether a recording is complete, from three signs: packets that cannot be decoded, gaps in the
file's structure (parts.py), and a header that claims more sound than there is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import av.logging
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from preheat.audio.frames import HEAD, frame_size
from preheat.audio.parts import Part, parts
from preheat.audio.sink import Sink
from preheat.storage import InputError

# Those of FFmpeg's formats that hold recordings. The others include playlists and session descriptions, with
# which a file could make this machine open other files or network connections.
FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,dsf,dss,dts,eac3,flac,flv,gsm,ircam,iff,loas,matroska,webm,"
    "mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,paf,qcp,rm,sln,sox,tak,tta,voc,"
    "w64,wav,wsaud,wv,wtv,xwma"
)
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
NO_RECORDING = "is not a recording, or damaged at its start; give a wav, flac, mp3, m4a, ogg or webm file"
NO_START = "is cut short and cannot be read at all (the index of mp4 and m4a is at the end); copy it again"
EXACT = ("pcm_", "flac", "alac", "wavpack", "tta")  # lossless codecs: as many samples out as went in
CHUNKED = ("wav", "aiff", "w64", "caf")  # FFmpeg's names of the formats whose chunks parts.py reads
BARE = ("mp3", "aac")  # formats without a container: a sequence of frames, each of which gives its size
GUESSED = "Estimating duration from bitrate"  # FFmpeg's log message if a duration is its guess, not a claim
ENDED = "File ended prematurely"  # its message if a matroska file is truncated
BROKEN = ("CRC mismatch", "invalid as first byte of an EBML number")  # and if pages or blocks are damaged
HOLE = 4096  # bytes of zeros in place of frames; with more the file counts as damaged
TOLERATED = 0.25  # s by which a header may overstate the length: encoder delay and padding
GAP = 0.1  # s of sound in total that may be undecodable: joined mp3 files lose a frame at each joint
TRIES = 10  # attempts to go on demuxing a damaged file


@dataclass
class View:
    """A part of a file, as a file object; it has no name from which FFmpeg could guess the format."""

    file: BinaryIO
    part: Part
    at: int = 0

    def read(self, size: int) -> bytes:
        """See io.RawIOBase."""
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
        """See io.RawIOBase."""
        self.at = max(offset + (0, self.at, self.part.end - self.part.start)[whence], 0)
        return self.at

    def tell(self) -> int:
        """See io.RawIOBase."""
        return self.at


@dataclass
class DecodeStats:
    """How decoding one part went, in seconds of sound."""

    claimed: float = 0.0  # length by the header; 0 if it claims none
    reached: float = 0.0  # latest packet end, over all streams that the claim covers
    clocked: float = 0.0  # latest packet end of the sound alone, from its start
    decoded: float = 0.0
    lost: float = 0.0  # undecodable sound that was followed by decodable sound
    failing: float = 0.0  # undecodable sound since the last packet that could be decoded
    partial: bool = False  # the latest packet is incomplete
    cut: bool = False  # the file's structure is cut short
    damaged: bool = False  # the file's structure has gaps
    exact: bool = False  # the codec is lossless: lengths must match to the sample
    gapless: bool = False  # a gap between packet times is lost sound, not silence that was never stored
    zeros: int = 0  # bytes of zeros in place of frames, as failing disks and broken downloads leave them

    def problem(self, before: float) -> str | None:
        """What is missing, None if nothing is; `before`: seconds of the parts before this one."""
        of = f" of {before + self.claimed:.1f} s" if self.claimed else ""
        there = f"{before + self.decoded:.1f} s{of}"
        if self.cut or self.partial or self.failing > 0:
            return f"is cut short after {there}"
        if self.claimed - self.reached > (0.01 if self.exact else TOLERATED):
            return f"is cut short or damaged: only {there} can be read"
        lost = self.lost + (self.clocked - self.decoded if self.gapless else 0)
        if self.damaged or self.zeros > HOLE or lost > (0.01 if self.exact else GAP):
            return f"is damaged: some audio is missing, {there} can be read"
        return None


av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)  # otherwise GUESSED would be logged for the first part only


def decode(
    file: BinaryIO, output: BinaryIO, alive: Callable[[], None], track: int = 0, channel: int = 0
) -> dict[str, Any]:
    """Write the samples of a recording to `output`.

    Returns a report: `incomplete`, what is missing (None if nothing is), and `channels`, how many it has.
    `alive` is called now and then while decoding goes on. `track`: number of the audio track, from 1; 0: the
    one that FFmpeg takes for the main one. `channel`: see Mixer. Raises InputError if there is nothing to
    decode.
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
            course = DecodeStats(cut=True)
        problems.append(course.problem(before))
    if sink.samples == 0 and errors:
        raise errors[0]
    output.flush()
    found = next(filter(None, problems), None)
    incomplete = found and f"{found}; copy it again, or export it from its source"
    return {"incomplete": incomplete, "channels": sink.channels}


def decode_part(view: View, sink: Sink, track: int) -> DecodeStats:
    """Decode one recording into `sink`. Raises InputError."""
    course = DecodeStats(cut=view.part.cut, damaged=view.part.damaged)
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
                raise InputError(NO_START if course.cut else "has no audio; give a recording that does")
            if stream.codec_context is None:
                raise InputError("has audio in an unsupported codec; export it as flac")
            stream.codec_context.thread_count = 1
            course.exact = stream.codec_context.name.startswith(EXACT)
            course.gapless = course.exact and (container.format.name == "flac" or stream.duration is not None)
            # Converting the Fraction time_base for each packet would take as long as decoding.
            ticks: dict[int, float] = {}  # s, by stream; in some formats a stream may first appear late
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
            # The duration of a stream counts from its start, that of the container from 0.
            course.reached = (
                course.clocked if stream.duration is not None else max(course.reached, course.clocked)
            )
            messages = [message for _, _, message in log]
            course.cut = course.cut or any(ENDED in message for message in messages)
            course.damaged = course.damaged or any(mark in message for mark in BROKEN for message in messages)
            if not any(GUESSED in message for message in messages):
                course.claimed = claim(container, stream)
    return course


def packets(container: InputContainer, course: DecodeStats) -> Iterator["Packet[Any]"]:
    """All packets of all streams, skipping damaged places."""
    for _ in range(TRIES):
        try:
            yield from container.demux()
        except (av.FFmpegError, IndexError):  # IndexError: a new stream that PyAV does not know
            continue
        return
    course.cut = True


def decode_packet(packet: "Packet[Any]", container: str, course: DecodeStats, sink: Sink) -> None:
    """Decode a packet of sound into `sink`."""
    if packet.size:  # the last one is empty: it flushes the decoder
        frame = frame_size(bytes(packet)) if container in BARE else packet.size
        if frame == 0:  # not a frame; usually a tag
            if not any(bytes(packet)):
                course.zeros += packet.size
            return
        # In a chunked file parts.py decides: if its length is unknown, the last packet is never full.
        course.partial = packet.size < frame or (packet.is_corrupt and container not in CHUNKED)
    try:
        frames = packet.decode()
    except MemoryError:  # includes FFmpeg's ENOMEM, which is an FFmpegError, too
        raise
    except av.FFmpegError:
        if container in CHUNKED and packet.size < HEAD:  # the padding byte that makes a chunk's length even
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
    if container.format.name == "ogg":  # FFmpeg derives the duration from the last page found
        return 0
    if stream.duration is not None:  # of a cut avi file FFmpeg reduces duration, but not frames
        return float(max(stream.duration, stream.frames) * (stream.time_base or 0))
    return (container.duration or 0) / av.time_base
