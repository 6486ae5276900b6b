"""headers.py: a file is taken for plain only if every byte of its structure is as expected."""

import io
import struct
from pathlib import Path

import pytest
import soundfile

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.headers import Plain, plain
from tests.runtime.soundfiles import RECORDINGS, WRITERS, by_soundfile, chirp, patched, piped

SOUND = chirp(0.5)
WAV = WRITERS["wav"](SOUND)
FLAC = WRITERS["flac"](SOUND)
LIST = b"LIST" + struct.pack("<I", 16) + b"INFOISFT\x04\0\0\0abc\0"


def found(content: bytes, folder: Path) -> Plain | None:
    (folder / "a").write_bytes(content)
    with (folder / "a").open("rb", buffering=0) as file:
        return plain(file)


def with_chunk(chunk: bytes, at: int | None = None) -> bytes:
    """The wav file with one more chunk, and its length right."""
    at = len(WAV) if at is None else at
    content = WAV[:at] + chunk + WAV[at:]
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"]
)
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_plain_wav_of_every_kind(form: str, subtype: str, tmp_path: Path) -> None:
    if form == "WAVEX" or subtype in ("FLOAT", "DOUBLE"):
        content = by_soundfile(form, subtype)(SOUND, 44100, 2)
        # libsndfile adds a PEAK chunk to float files, which is not in HARMLESS.
        wanted = None if subtype in ("FLOAT", "DOUBLE") else Plain(44100, 2, 22050)
    else:
        content = by_soundfile(form, subtype)(SOUND, 44100, 2)
        wanted = Plain(44100, 2, 22050)
    assert found(content, tmp_path) == wanted


def test_plain_flac(tmp_path: Path) -> None:
    assert found(FLAC, tmp_path) == Plain(SAMPLE_RATE, 1, 8000)
    for kind in ("PCM_16", "PCM_24"):
        content = by_soundfile("FLAC", kind)(SOUND, 48000, 2)
        assert found(content, tmp_path) == Plain(48000, 2, 24000)


@pytest.mark.parametrize(
    "content",
    [
        with_chunk(LIST),
        with_chunk(LIST, at=12),
        with_chunk(b"fact\x04\0\0\0" + bytes(4), at=36),
        with_chunk(b"JUNK\x05\0\0\0" + bytes(6), at=36),
        with_chunk(b"JUNK\x05\0\0\0" + bytes(5)),  # without its padding byte
    ],
    ids=["list", "list first", "fact", "junk", "odd"],
)
def test_chunks_that_do_no_harm(content: bytes, tmp_path: Path) -> None:
    assert found(content, tmp_path) == Plain(SAMPLE_RATE, 1, 8000)
    assert len(soundfile.read(io.BytesIO(content))[0]) == 8000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        WAV[:-2],
        WAV + bytes(4),
        with_chunk(b"odd \x04\0\0\0" + bytes(4)),
        with_chunk(b"LIST\x16\0\0\0adtlstrc\xf8\xff\xff\xff" + bytes(10), at=36),
        with_chunk(patched(LIST, b"ISFT", 0, b"\xf8\xff\xff\xff")),
        with_chunk(WAV[12:36]),  # a second format
        with_chunk(WAV[36:]),  # and more sound
        patched(WAV, b"data", 0, bytes(4)),
        patched(WAV, b"data", 0, b"\xff" * 4),
        patched(WAV, b"data", 0, struct.pack("<I", 8000)),
        patched(WAV, b"fmt ", 4, b"\x11\0"),  # ADPCM
        patched(WAV, b"fmt ", 6, b"\0\0"),  # no channel
        patched(WAV, b"fmt ", 16, b"\3\0"),  # a sample of three bytes with two channels' worth of bits
        WAV.replace(b"RIFF", b"RIFX"),
        WAV * 2,
        FLAC * 2,
        FLAC[:50],
        FLAC[:21] + bytes([FLAC[21] & 0xF0]) + bytes(4) + FLAC[26:],  # total samples 0: length unknown
        FLAC[:4] + b"\x04" + FLAC[5:],  # another block in STREAMINFO's place
        *(WRITERS[name](SOUND) for name in ("rf64", "w64", "aiff", "mp3", "ogg", "m4a")),
        (RECORDINGS / "hang.wav").read_bytes(),
        (RECORDINGS / "unfinalised-size-0.wav").read_bytes(),
        piped(),
    ],
)
def test_whatever_is_unusual_is_not_plain(content: bytes, tmp_path: Path) -> None:
    assert found(content, tmp_path) is None
