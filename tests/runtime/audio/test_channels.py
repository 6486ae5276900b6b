"""Each channel of a recording on its own, as call centres have one for each speaker."""

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webvtt

from preheat import Options, Transcriber
from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Mixer, Samples
from preheat.transcript import Segment, Transcript, merged
from tests.runtime.console import Run, errors

# Plain wav is read by libsndfile, the others by FFmpeg.
WAYS = {"wav": ("WAV", "PCM_16"), "ogg": ("OGG", "VORBIS")}


def recording(way: str, *channels: Samples) -> bytes:
    """A file with these channels, the shorter ones filled with silence."""
    length = max(map(len, channels))
    sound = np.stack([np.pad(channel, (0, length - len(channel))) for channel in channels], axis=1)
    file = io.BytesIO()
    form, subtype = WAYS[way]
    soundfile.write(file, sound, SAMPLE_RATE, format=form, subtype=subtype)
    return file.getvalue()


@pytest.fixture
def sounds(samples: Path) -> list[Samples]:
    """The speech of two people; the second one starts before the first one ends."""
    first = audiofile.decode(samples / "short.flac").samples
    second = audiofile.decode(samples / "long.flac").samples[: 12 * SAMPLE_RATE]
    return [first, np.concatenate([np.zeros(4 * SAMPLE_RATE, np.float32), second])]


def lines(text: str, channel: str) -> list[str]:
    """The lines of one channel."""
    return [line.removeprefix(f"{channel}: ") for line in text.splitlines() if line.startswith(channel)]


@pytest.mark.parametrize("way", WAYS)
def test_what_each_says_is_told_apart(way: str, main: Run, sounds: list[Samples], tmp_path: Path) -> None:
    for name, sound in zip(("left", "right"), sounds, strict=True):
        (tmp_path / name).write_bytes(recording(way, sound))
    call = tmp_path / f"call.{way}"
    call.write_bytes(recording(way, *sounds))
    done = main("--quiet", "--channels", call)
    assert (done.returncode, errors(done)) == (0, [])
    assert all(line.startswith(("left: ", "right: ")) for line in done.stdout.splitlines())
    for name in ("left", "right"):
        alone = main("--quiet", tmp_path / name).stdout
        assert " ".join(lines(done.stdout, name)).split() == alone.split() != []


def test_every_format_names_the_channel(main: Run, sounds: list[Samples], tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(recording("wav", *sounds))
    done = main("--channels", "-f", "all", "-o", tmp_path, tmp_path / "call.wav")
    assert (done.returncode, errors(done)) == (0, [])
    segments = json.loads((tmp_path / "call.json").read_text())["segments"]
    assert {segment["channel"] for segment in segments} == {"left", "right"}
    assert [segment["start"] for segment in segments] == sorted(segment["start"] for segment in segments)
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    rows = (tmp_path / "call.tsv").read_text().splitlines()[1:]
    assert all(row.split("\t")[2].startswith(("left: ", "right: ")) for row in rows)
    cues = webvtt.from_string((tmp_path / "call.vtt").read_text()).captions
    assert {cue.voice for cue in cues} == {"left", "right"}
    for voice in ("left", "right"):
        own = [cue for cue in cues if cue.voice == voice]
        assert all(before.end <= after.start for before, after in pairwise(own))
    blocks = (tmp_path / "call.srt").read_text().strip().split("\n\n")
    assert len(blocks) == len(cues)
    for block in blocks:
        said = block.split("\n")[2:]
        assert said[0].startswith(("left: ", "right: "))
        assert max(map(len, said)) <= 42
    plain = main("--quiet", "--channels", "-f", "srt", "--max_words_per_line", "3", tmp_path / "call.wav")
    assert all(
        block.split("\n")[2].startswith(("left: ", "right: ")) for block in plain.stdout.strip().split("\n\n")
    )


def test_one_channel_has_no_name(main: Run, samples: Path) -> None:
    wanted = main("--quiet", "-f", "json", samples / "short.flac").stdout
    assert main("--quiet", "-f", "json", "--channels", samples / "short.flac").stdout == wanted
    assert "channel" not in wanted


def test_more_than_two_are_numbered(home: Path, sounds: list[Samples], tmp_path: Path) -> None:
    """From the library, too; a silent channel has no segments."""
    (tmp_path / "meeting.wav").write_bytes(recording("wav", sounds[0], np.zeros(1, np.float32), sounds[1]))
    transcript = Transcriber(home=home).transcribe(tmp_path / "meeting.wav", Options(channels=True))
    assert {segment.channel for segment in transcript.segments} == {"1", "3"}


def test_a_damaged_file_keeps_its_channels(main: Run, sounds: list[Samples], tmp_path: Path) -> None:
    content = recording("wav", *sounds)
    (tmp_path / "call.wav").write_bytes(content[: len(content) * 3 // 4])
    done = main("--channels", tmp_path / "call.wav")
    assert done.returncode == 1 and "is cut short" in errors(done)[0]
    assert lines(done.stdout, "left") and lines(done.stdout, "right")


def test_a_part_with_fewer_channels_is_silent() -> None:
    block = np.ones((SAMPLE_RATE, 2), np.float32) * [1, 0.5]
    for channel, level in ((1, 1), (2, 0.5), (3, 0)):
        mixer = Mixer(SAMPLE_RATE, 2, channel)
        sound = np.concatenate([mixer.mix(block.astype(np.float32)), mixer.rest()])
        assert len(sound) == SAMPLE_RATE
        assert np.allclose(sound[100:-100], level, atol=0.01)


def test_the_language_is_that_of_the_longest_text() -> None:
    def said(language: str, text: str, start: float, incomplete: str | None = None) -> Transcript:
        segment = Segment(0, start, start + 1, text, [], 0.0, 0.0, 1.0, 0.0)
        return Transcript(language, [segment], 0.9, incomplete)

    found = merged({"left": said("en", "Hi.", 2.0), "right": said("de", "Guten Tag.", 1.0, "is cut short")})
    assert (found.language, found.incomplete) == ("de", "is cut short")
    assert [(segment.channel, segment.text) for segment in found.segments] == [
        ("right", "Guten Tag."),
        ("left", "Hi."),
    ]
