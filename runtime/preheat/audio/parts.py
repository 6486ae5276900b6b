"""Checks the structure of a container file for what FFmpeg does not report: whether the file is truncated,
and whether another recording follows in the same file.

People join recordings with `cat`. FFmpeg decodes all of a joined file if its format has no header (mp3, aac,
…). In most other formats it stops after the first or second recording, and in Ogg it fails if the next one
has another rate. So such files are split here.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO

STREAMED = 0x7FFF0000  # bytes: a wav or aiff file that claims this much or more was written to a pipe
MOST = 1 << 50  # bytes: an 8-byte length of this much or more is not a real one
LEAST = 1024  # bytes: no more than this after the sound is a tag of another format, not more sound
BOXES_FIRST = (b"ftyp", b"moov", b"mdat", b"wide")  # of an mp4 file; of an old mov file all but the first
BOXES_NEEDED = (b"moov", b"moof", b"mdat")  # of an mp4 file: if one of these is cut, sound is missing
TRANSPORT = 188  # bytes of each packet of an MPEG transport stream

# The header of an Ogg page (RFC 3533, 6): magic, flags, granule position, serial number, page number,
# checksum, and the number of segment lengths (a byte each) that follow.
PAGE = struct.Struct("<4sxBqIIIB")
BEGIN, END = 2, 4  # flags: the first and the last page of a stream

# Magic bytes of matroska and webm, wma, amr and flv files; unlikely to occur anywhere else in them.
MATROSKA = b"\x1a\x45\xdf\xa3"
MAGIC = (
    MATROSKA,
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    b"#!AMR\n",
    b"#!AMR-WB\n",
    b"FLV\x01\x04\0\0\0\x09",
    b"FLV\x01\x05\0\0\0\x09",
)
# GUID of ASF's File Properties Object; the file's size is at byte 40 of the object.
FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


@dataclass
class Part:
    """A recording within a file."""

    start: int
    end: int
    cut: bool = False  # the file ends before its structure does
    damaged: bool = False  # something is missing inside
    patch: dict[int, bytes] = field(default_factory=dict)  # by offset in the file: corrected bytes


@dataclass(frozen=True)
class Chunks:
    """The layout of chunks in a format. Each chunk is a name, a length, and that many bytes."""

    magic: tuple[bytes, ...]  # the name of the first chunk, which contains or precedes all others
    head: int  # bytes before the second chunk
    big: bool  # lengths are big-endian
    name: int  # bytes of a name
    width: int  # bytes of a length
    sound: bytes  # how the name of the chunk with the sound begins
    align: int  # every chunk begins at a multiple of this many bytes
    counted: int = 0  # bytes of name and length that the length includes

    @property
    def front(self) -> int:
        """Bytes of name and length."""
        return self.name + self.width

    def length(self, content: bytes) -> int:
        """The length of what follows name and length, from its bytes. Negative if it is unknown."""
        found = int.from_bytes(content, "big" if self.big else "little", signed=self.width > len(RIFF))
        return found - self.counted

    def bytes_of(self, length: int) -> bytes:
        """The bytes that encode a length, or the largest one that fits."""
        most = (1 << 8 * self.width) - 1
        return min(length + self.counted, most).to_bytes(self.width, "big" if self.big else "little")


RIFF = b"RIFF"
FORMATS = (
    Chunks((RIFF, b"RF64"), 12, False, 4, 4, b"data", 2),
    Chunks((b"FORM",), 12, True, 4, 4, b"SSND", 2),
    Chunks((b"riff\x2e\x91\xcf\x11",), 40, False, 16, 8, b"data", 8, counted=24),  # Sony's w64
    Chunks((b"caff",), 8, True, 4, 8, b"data", 1),
)


def parts(file: BinaryIO) -> list[Part]:
    """The recordings in a file, in order; usually one, the whole file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(4096)
    for form in FORMATS:
        if head.startswith(form.magic):
            return list(chunked(file, size, form))
    if head[4:8] in BOXES_FIRST:
        return list(boxed(file, size))
    if head[:4] == b"OggS":
        return list(paged(file, size))
    if magic := next((magic for magic in MAGIC if head.startswith(magic)), None):
        return list(scanned(file, size, magic))
    # Only in a transport stream is a partial packet at the end a sign of a cut.
    return [Part(0, size, cut=head[::TRANSPORT][:3] == b"GGG" and size % TRANSPORT > 0)]


def chunked(file: BinaryIO, size: int, form: Chunks) -> Iterator[Part]:
    """The parts of a file of chunks."""
    part, at = Part(0, size), form.head
    long, ds64, heard = 0, 0, False  # RF64's 64-bit length and its offset; whether there was sound
    while at + form.front <= size:
        file.seek(at)
        head = file.read(form.front)
        if head.startswith(form.magic):
            part.end = at
            yield part
            part, at = Part(at, size), at + form.head
            long, ds64, heard = 0, 0, False
            continue
        length = form.length(head[form.name :])
        if head.startswith(b"ds64"):  # of RF64: lengths that do not fit into four bytes
            ds64 = at + form.front + 8
            long = int.from_bytes(file.read(16)[8:], "little", signed=True)
        elif head.startswith(form.sound):
            left = size - at - form.front
            known = long > 0 or 0 < length < (STREAMED if form.width == len(RIFF) else MOST)
            length = long if long > 0 else length
            if not known or not goes_on(file, size, at + form.front + length, form):
                # The writer did not know the length, or was stopped before it could correct it.
                part.patch[at + form.name] = form.bytes_of(left)
                if ds64:
                    part.patch[ds64] = left.to_bytes(8, "little")
                break
            part.cut = part.cut or length > left
            part.damaged = part.damaged or heard  # readers ignore a second one
            heard = True
        if length < 0:
            break
        at += form.front + length
        at += -at % form.align
    yield part


def is_name(name: bytes) -> bool:
    """Whether this may be the name of a chunk."""
    return name.isascii() and name.decode().isprintable()


def goes_on(file: BinaryIO, size: int, at: int, form: Chunks) -> bool:
    """Whether a chunk, too little to be sound, or nothing is at `at`: then the length before it is right."""
    if size - at <= LEAST:
        return True
    file.seek(at + -at % form.align)
    head = file.read(form.front)
    length = form.length(head[form.name :])
    return head.startswith(form.magic) or (is_name(head[:4]) and 0 <= length <= size - at)


def boxed(file: BinaryIO, size: int) -> Iterator[Part]:
    """The parts of an mp4 file: boxes of a length and a name (ISO/IEC 14496-12, 4.2)."""
    part, at, indexed = Part(0, size), 0, False
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8).ljust(8, b"\xff"))
        elif length == 0:  # to the end
            length = size - at
        if name == b"ftyp" and indexed:
            part.end = at
            yield part
            part, indexed = Part(at, size), False
        indexed = indexed or name == b"moov"
        if at + length > size and name in BOXES_NEEDED:
            part.cut = True
            if name == b"moof":  # FFmpeg rejects the whole file if its last moof box is incomplete
                part.end = at
        if length < 8:  # noqa: PLR2004  less than a box header: not a box
            break
        at += length
    part.cut = part.cut or not indexed
    yield part


def paged(file: BinaryIO, size: int) -> Iterator[Part]:
    """The parts of an Ogg file: pages of any number of streams, which all begin before other pages follow."""
    part, open_streams, begun = Part(0, size), set[int](), False
    numbers: dict[int, int] = {}
    following = 0
    found = find(file, b"OggS", 0)
    while (at := found) is not None:
        file.seek(at)
        _, flags, _, serial, number, _, segments = PAGE.unpack(file.read(PAGE.size).ljust(PAGE.size, b"\0"))
        lengths = file.read(segments)
        following = at + PAGE.size + segments + sum(lengths)
        # If something was appended to a truncated page, the next page begins within this one.
        if (within := file.read(sum(lengths)).find(b"OggS\0")) >= 0:
            following = at + PAGE.size + segments + within
            part.damaged = True
        if flags & BEGIN and begun:
            part.end, part.cut = at, part.cut or bool(open_streams)
            yield part
            part, open_streams, numbers = Part(at, size), set(), {}
        begun = not flags & BEGIN
        part.cut = part.cut or following > size
        part.damaged = part.damaged or number > numbers.get(serial, number)  # pages are missing
        numbers[serial] = number + 1
        # A packet that does not end on a page continues on the next. A missing END flag alone is no sign of
        # a cut: programs that write voice messages or streams leave it out.
        (open_streams.add if lengths[-1:] == b"\xff" and not flags & END else open_streams.discard)(serial)
        found = find(file, b"OggS", following)
    file.seek(following)
    beginning = file.read(4)  # perhaps of another page, truncated within its magic
    part.cut = part.cut or bool(open_streams) or (beginning != b"" and b"OggS".startswith(beginning))
    yield part


def scanned(file: BinaryIO, size: int, magic: bytes) -> Iterator[Part]:
    """The parts of a file in one of the formats that are recognised by MAGIC alone."""
    starts, at = [0], find(file, magic, 1)
    while at is not None:
        file.seek(at)
        # Matroska's four magic bytes may occur by chance: its DocType must follow soon.
        head = file.read(64)
        if magic != MATROSKA or b"webm" in head or b"matroska" in head:
            starts.append(at)
        at = find(file, magic, at + 1)
    for start, end in pairwise([*starts, size]):
        file.seek(start)
        head = file.read(4096)
        place = head.find(FILE_PROPERTIES)
        claimed = int.from_bytes(head[place + 40 : place + 48], "little") if place >= 0 else 0
        yield Part(start, end, cut=claimed > end - start)


def find(file: BinaryIO, mark: bytes, at: int) -> int | None:
    """The offset of the next `mark` from `at` on; None if there is none."""
    file.seek(at)
    if (
        file.read(len(mark)) == mark
    ):  # usually it is right there: reading a whole block for each page would be wasted
        return at
    size = 1 << 20
    while True:
        file.seek(at)
        block = file.read(size)
        if (found := block.find(mark)) >= 0:
            return at + found
        if len(block) < size:
            return None
        at += size - len(mark) + 1
