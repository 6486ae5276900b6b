"""Incomplete recordings, in every format: all that is there is read, and what is missing is reported."""

import struct
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import av
import numpy as np
import pytest

from preheat.audio import audiofile
from preheat.audio.audiofile import Recording
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.frames import frame_size
from preheat.storage import InputError
from tests.runtime.soundfiles import RECORDINGS, WRITERS, by_av, chirp, patched, piped, wav_with

SECONDS = 4.0
CODEC = 0.12  # s that codecs may add or leave out, at either end


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """Four seconds in each format."""
    return {name: write(chirp(SECONDS)) for name, write in WRITERS.items()}


def read(content: bytes, folder: Path) -> Recording:
    """Decode content from a file whose name says nothing about its format."""
    (folder / "recording").write_bytes(content)
    return audiofile.decode(folder / "recording")


def seconds(recording: Recording) -> float:
    return len(recording.samples) / SAMPLE_RATE


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_whole_is_read_whole(name: str, written: dict[str, bytes], tmp_path: Path) -> None:
    found = read(written[name], tmp_path)
    assert found.incomplete is None
    assert seconds(found) == pytest.approx(SECONDS, abs=CODEC)
    middle = slice(SAMPLE_RATE, 3 * SAMPLE_RATE)
    wanted = chirp(SECONDS)[middle]
    # Codecs delay: take the best match within a tenth of a second. Telephone codecs keep up to 3.4 kHz.
    shifts = range(-SAMPLE_RATE // 10, SAMPLE_RATE // 10, 4)
    likeness = max(np.corrcoef(np.roll(found.samples, shift)[middle], wanted)[0, 1] for shift in shifts)
    assert likeness > (0.6 if name in ("amr", "3gp") else 0.75)


ALL_OR_NOTHING = ("mp4", "wv", "ogg")  # in short files: an index at the end, or one block or page


@pytest.mark.parametrize("part", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("name", WRITERS)
def test_what_is_cut_short_is_read_as_far_as_it_goes(
    name: str, part: float, written: dict[str, bytes], tmp_path: Path
) -> None:
    content = written[name][: round(len(written[name]) * part) | 1]  # odd: within a sample or packet
    if name in ALL_OR_NOTHING:
        with pytest.raises(InputError, match="is cut short"):
            read(content, tmp_path)
        return
    found = read(content, tmp_path)
    if (name, part) == ("avi", 0.9):  # only its index is missing
        assert found.incomplete is None and seconds(found) >= SECONDS
        return
    assert found.incomplete is not None and found.incomplete.startswith("is cut short")
    # Bytes are only roughly proportional to seconds: in a short file headers and Ogg pages are large.
    assert SECONDS * part - 1.6 < seconds(found) < SECONDS


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("wv", "tta", "ts")])
def test_what_is_joined_is_read_to_the_end(name: str, written: dict[str, bytes], tmp_path: Path) -> None:
    """Joined with `cat`, as people do; in the formats left out, players read only the first recording."""
    found = read(written[name] * 3, tmp_path)
    assert found.incomplete is None
    assert seconds(found) == pytest.approx(3 * SECONDS, abs=3 * CODEC)


@pytest.mark.parametrize("name", ["wav", "aiff", "ogg", "mp3"])
def test_joined_recordings_may_differ(name: str, tmp_path: Path) -> None:
    write: object = WRITERS[name]
    assert callable(write)
    content = write(chirp(SECONDS)) + write(chirp(SECONDS), 44100, 2) + write(chirp(SECONDS), 22050)
    found = read(content, tmp_path)
    assert found.incomplete is None
    assert seconds(found) == pytest.approx(3 * SECONDS, abs=0.3)


def test_ogg_streams_of_every_codec_in_a_chain(written: dict[str, bytes], tmp_path: Path) -> None:
    chain = written["ogg"] + written["opus"] + (RECORDINGS / "flac-in-ogg.oga").read_bytes()
    assert seconds(read(chain, tmp_path)) == pytest.approx(2 * SECONDS + 10.5, abs=0.1)
    found = read(written["ogg"][:-100] + written["opus"], tmp_path)  # nothing can be read of the first one
    assert found.incomplete is not None and seconds(found) == pytest.approx(SECONDS, abs=CODEC)


SOUND = chirp(SECONDS)
WHOLE = 2 * len(SOUND)  # bytes


@pytest.mark.parametrize(
    "content",
    [
        wav_with(SOUND, 0),
        wav_with(SOUND, 0xFFFFFFFF),
        wav_with(SOUND, 0x7FFFF000),
        wav_with(SOUND, WHOLE // 4),  # the writer updated the length now and then, but not at the end
        wav_with(SOUND, WHOLE // 4 + 1000),
        wav_with(SOUND, WHOLE, behind=b"TAG" + bytes(125)),
        wav_with(SOUND, WHOLE, behind=b"LIST" + struct.pack("<I", 0xFFFFFFF8) + b"INFO"),
        patched(patched(WRITERS["rf64"](SOUND), b"ds64", 4, bytes(24)), b"data", 0, b"\xff" * 4),
        patched(WRITERS["caf"](SOUND), b"data", 0, b"\xff" * 8),
        patched(WRITERS["au"](SOUND), b".snd", 4, b"\xff" * 4),
        patched(WRITERS["aiff"](SOUND), b"SSND", 0, bytes(4)),
        patched(WRITERS["w64"](SOUND), b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 0, bytes(8)),
        WRITERS["mp3"](SOUND) + b"TAG" + b"title".ljust(125, b"\0"),
        b"ID3\x03\0\0\0\0\x0f\x76" + bytes(2038) + WRITERS["mp3"](SOUND),
    ],
    ids=[
        *(
            "wav-0",
            "wav-minus-1",
            "wav-piped",
            "wav-stale",
            "wav-stale-odd",
            "wav-tag",
            "wav-bad-list",
            "rf64-0",
        ),
        *("caf-minus-1", "au-minus-1", "aiff-0", "w64-0", "mp3-tag-behind", "mp3-tag-before"),
    ],
)
def test_a_length_that_nobody_knew_is_no_end(content: bytes, tmp_path: Path) -> None:
    found = read(content, tmp_path)
    assert found.incomplete is None
    assert seconds(found) == pytest.approx(SECONDS, abs=CODEC)


@pytest.mark.parametrize("name", ["flac", "m4a", "ogg", "mp3"])
def test_what_is_damaged_within_is_told(name: str, written: dict[str, bytes], tmp_path: Path) -> None:
    content = bytearray(WRITERS["ogg"](chirp(20)) if name == "ogg" else written[name])
    middle = len(content) // 2
    content[middle : middle + 1500] = np.random.default_rng(0).bytes(1500)
    found = read(bytes(content), tmp_path)
    assert found.incomplete is not None and "damaged" in found.incomplete
    assert seconds(found) > SECONDS / 2


def test_a_page_that_is_missing_is_told(written: dict[str, bytes], tmp_path: Path) -> None:
    content = WRITERS["ogg"](chirp(20))
    pages = content.split(b"OggS")
    found = read(b"OggS".join(pages[:4] + pages[5:]), tmp_path)
    assert found.incomplete is not None and found.incomplete.startswith("is damaged")


def test_an_ogg_file_without_its_end_of_stream_is_whole(tmp_path: Path) -> None:
    """Programs that write voice messages or streams do not set the flag; the last page is complete."""
    pages = WRITERS["ogg"](chirp(20)).split(b"OggS")
    found = read(b"OggS".join(pages[:-1]), tmp_path)
    assert found.incomplete is None and seconds(found) > 15


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 22050, 32000, 48000])
def test_mp3_of_every_version(rate: int, tmp_path: Path) -> None:
    """MPEG 2.5 has frames of other sizes; telephones and dictaphones write it."""
    found = read(by_av("mp3", "libmp3lame", rate)(chirp(SECONDS)), tmp_path)
    assert found.incomplete is None and seconds(found) == pytest.approx(SECONDS, abs=2 * CODEC)


def with_video(sound_codec: str, *, late: float = 0) -> bytes:
    """Four seconds of sound, starting at `late` s, with six of pictures, as screen recorders write it."""
    with NamedTemporaryFile(suffix=".mkv") as file:
        with av.open(file.name, "w") as container:
            video: Any = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            audiofile: Any = container.add_stream(sound_codec, rate=SAMPLE_RATE)
            audiofile.layout = "mono"
            for i in range(60):
                picture = av.VideoFrame(64, 64, "yuv420p")
                picture.pts = i
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
            sound = av.AudioFrame.from_ndarray(chirp(SECONDS)[None], format="flt", layout="mono")
            sound.sample_rate, sound.pts = SAMPLE_RATE, round(late * SAMPLE_RATE)
            for frame in [*av.AudioResampler(audiofile.format, "mono", SAMPLE_RATE).resample(sound), None]:
                if frame:
                    frame.pts = (frame.pts or 0) if late == 0 else round(late * SAMPLE_RATE)
                container.mux(audiofile.encode(frame))
        return file.read()


@pytest.mark.parametrize("late", [0, 2])
@pytest.mark.parametrize("codec", ["pcm_s16le", "libmp3lame"])
def test_sound_may_be_shorter_than_its_pictures(codec: str, late: float, tmp_path: Path) -> None:
    found = read(with_video(codec, late=late), tmp_path)
    assert found.incomplete is None and seconds(found) == pytest.approx(SECONDS, abs=CODEC)


@pytest.mark.parametrize("name", ["mp3", "webm", "live.webm", "m4a", "opus", "flac"])
def test_a_hole_is_told(name: str, written: dict[str, bytes], tmp_path: Path) -> None:
    """Zeros, as failing disks and broken downloads leave them."""
    content = bytearray(written[name])
    middle = len(content) // 2
    content[middle : middle + 9000] = bytes(len(content[middle : middle + 9000]))
    found = read(bytes(content), tmp_path)
    assert found.incomplete is not None


def test_a_second_chunk_of_sound_is_told(tmp_path: Path) -> None:
    whole = WRITERS["wav"](SOUND)
    found = read(whole + whole[36:], tmp_path)
    assert found.incomplete is not None and "damaged" in found.incomplete


def test_a_guess_from_the_first_frame_is_not_believed(tmp_path: Path) -> None:
    """FFmpeg assumes that all frames are as small as the first ones, and so guesses 45 s."""
    content = (RECORDINGS / "vbr-without-xing.mp3").read_bytes()
    at = 10 + content[9]  # behind its tag
    frames = []
    while at < len(content) and (size := frame_size(content[at : at + 6])):
        frames.append(content[at : at + size])
        at += size
    assert len(content) - at < 2000  # a frame and some
    found = read(b"".join([min(frames, key=len)] * 200 + frames), tmp_path)
    assert found.incomplete is None and seconds(found) == pytest.approx(26.3, abs=0.2)


def test_guessed_lengths_are_not_believed(tmp_path: Path) -> None:
    """FFmpeg takes this one for 20.25 s, libsndfile for 8."""
    found = audiofile.decode(RECORDINGS / "vbr-without-xing.mp3")
    assert found.incomplete is None and seconds(found) == pytest.approx(21, abs=0.1)
    content = (RECORDINGS / "vbr-without-xing.mp3").read_bytes()
    told = [read(content[:size], tmp_path).incomplete for size in range(90_000, 150_000, 7_001)]
    assert sum(problem is None for problem in told) <= 1  # a cut between two frames cannot be detected


def test_piped_flac_is_whole(tmp_path: Path) -> None:
    found = read(piped(), tmp_path)
    assert found.incomplete is None and seconds(found) == pytest.approx(10.5, abs=0.02)


def test_no_part_has_its_guessed_length_believed(tmp_path: Path) -> None:
    """By default FFmpeg logs its guess only once. Here it guesses 0.3 s too much."""
    found = read((RECORDINGS / "phone.amr").read_bytes() * 3, tmp_path)
    assert found.incomplete is None and seconds(found) == pytest.approx(3 * 10.54, abs=0.1)
