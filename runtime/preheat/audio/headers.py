"""Which files are plain: wav or flac files whose header alone proves how much sound follows.

Plain files are decoded by libsndfile in this process. A file with anything unusual about it is not plain: it
is read in a separate process, where a decoder may hang or crash (isolation.py). libsndfile parses every chunk
of a wav file and is misled by wrong sizes, so every chunk's size is checked here first.
"""

import os
import struct
from typing import BinaryIO, NamedTuple

from preheat.audio import parts

# Format tags of uncompressed wav files, with the bytes that a sample may have.
PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
WIDTHS = {PCM: (1, 2, 3, 4), FLOAT: (4, 8), ALAW: (1,), MULAW: (1,)}
GUID = bytes.fromhex("000000001000800000aa00389b71")  # what follows the format tag in an extensible header
HARMLESS = (b"fact", b"JUNK", b"PAD ", b"FLLR")  # chunks that libsndfile skips or reads one number from

STREAMINFO, INVALID = 0, 127  # kinds of metadata blocks in a flac file


class Plain(NamedTuple):
    """What a proven header says."""

    rate: int  # Hz
    channels: int
    frames: int  # samples of each channel


def plain(file: BinaryIO) -> Plain | None:
    """What the header of a plain wav or flac file says; None for any other file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    try:
        start = file.read(4)
        if start == b"RIFF":
            return wav(file, size)
        return flac(file, size) if start == b"fLaC" else None
    except (struct.error, ValueError):  # truncated, or not plain
        return None


def wav(file: BinaryIO, size: int) -> Plain | None:
    """Read on after RIFF. Raises struct.error and ValueError."""
    length, kind = struct.unpack("<I4s", file.read(8))
    # Writers disagree on whether the length includes a final padding byte.
    if kind != b"WAVE" or abs(8 + length - size) > 1:
        return None
    at, found, data = 12, None, None
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if at + 8 + length > size:
            return None
        if name == b"fmt " and found is None:
            found = wav_format(file.read(min(length, 40)))
        elif name == b"data" and found is not None and data is None:
            data = length
        elif not (name in HARMLESS or (name == b"LIST" and is_list(file.read(length)))):
            return None
        at += 8 + length + length % 2
    if not (found and data) or at not in (size, size + 1):
        return None
    rate, channels, width = found
    return Plain(rate, channels, data // width) if data % width == 0 else None


def wav_format(content: bytes) -> tuple[int, int, int]:
    """Rate (Hz), channels, and bytes of a sample frame. Raises struct.error and ValueError."""
    tag, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", content)
    if tag == EXTENSIBLE:
        if content[26:] != GUID:
            raise ValueError("not a format that is known by its tag")
        (tag,) = struct.unpack_from("<H", content, 24)
    if channels == 0 or bits % 8 or width != channels * bits // 8 or bits // 8 not in WIDTHS.get(tag, ()):
        raise ValueError("not samples as they are")
    return rate, channels, width


def is_list(content: bytes) -> bool:
    """Whether a LIST chunk is an INFO list whose entries fill it exactly."""
    at = 4
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        at += 8 + length + length % 2
    return content[:4] == b"INFO" and at in (len(content), len(content) + 1)


def flac(file: BinaryIO, size: int) -> Plain | None:
    """Read on after fLaC. Raises struct.error."""
    at, found, last = 4, None, False
    while not last:
        file.seek(at)
        (head,) = struct.unpack(">I", file.read(4))
        last, kind, length = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        if (kind == STREAMINFO) != (at == 4) or kind == INVALID or at + 4 + length >= size:  # noqa: PLR2004
            return None
        if kind == STREAMINFO:
            # 20 bits of rate, 3 of channels, 5 of a sample's size, 36 of total samples (RFC 9639, 8.2)
            (bits,) = struct.unpack_from(">Q", file.read(length), 10)
            found = Plain(bits >> 44, (bits >> 41 & 7) + 1, bits & (1 << 36) - 1)
        at += 4 + length
    joined = parts.find(file, b"fLaC", at) is not None  # libsndfile stops after the first stream
    return found if found and found.frames and not joined else None
