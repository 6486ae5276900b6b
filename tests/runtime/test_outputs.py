"""The result files of transcribe.py in all formats: their names, their contents, and that none is partial."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pysubs2
import pytest
import srt
import webvtt

from preheat import formats
from preheat.subtitles import Lines
from preheat.transcript import Segment, Transcript, Word
from tests.runtime.console import Run, errors

ALL = ["txt", "srt", "vtt", "tsv", "json"]


def contents(folder: Path) -> dict[str, str]:
    """What is in each file of a folder."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != ".transcribe.jsonl"}


def recorded(document: str) -> Transcript:
    """The transcript that a JSON document was made from."""
    segments = []
    for segment in json.loads(document)["segments"]:
        del segment["id"]
        words = segment.pop("words", None)
        segments.append(Segment(**segment, words=words and [Word(**word) for word in words]))
    return Transcript("en", segments)


def test_all_formats_of_a_recording(run: Run, samples: Path, tmp_path: Path) -> None:
    done = run("--quiet", "-f", "all", "-o", tmp_path, samples / "long.flac")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = contents(tmp_path)
    assert sorted(files) == sorted(f"long.{name}" for name in ALL)
    said = recorded(files["long.json"])
    assert all(segment.words for segment in said.segments)
    for name, text in formats.written(said, ["txt", "srt", "vtt", "tsv"], Lines()).items():
        assert files[f"long.{name}"] == text
    cues = list(srt.parse(files["long.srt"]))
    assert " ".join(cue.content for cue in cues).split() == files["long.txt"].split()
    assert all(first.end <= second.start for first, second in pairwise(cues))
    assert all(0 < (cue.end - cue.start).total_seconds() <= 7 for cue in cues) and len(cues) > 5
    assert [cue.text for cue in webvtt.from_string(files["long.vtt"]).captions] == [
        cue.content for cue in cues
    ]
    assert len(pysubs2.SSAFile.from_string(files["long.vtt"])) == len(cues)
    rows = [line.split("\t") for line in files["long.tsv"].splitlines()]
    assert rows[0] == ["start", "end", "text"] and len(rows) == len(said.segments) + 1


def test_formats_may_be_named_one_by_one(main: Run, samples: Path, tmp_path: Path) -> None:
    done = main("--quiet", "-f", "srt", "-f", "txt,tsv", "--output_dir", tmp_path, samples / "short.flac")
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(contents(tmp_path)) == ["short.srt", "short.tsv", "short.txt"]


def test_one_format_to_stdout(main: Run, samples: Path) -> None:
    for name in ALL:
        done = main("--quiet", "--output_format", name, samples / "short.flac")
        assert (done.returncode, done.stderr) == (0, "") and "zero" in done.stdout
        assert done.stdout.startswith("WEBVTT\n\n00:00:0") == (name == "vtt")


def test_cues_of_openai_whisper(main: Run, samples: Path, tmp_path: Path) -> None:
    """One for each segment, or as its options want them; what the writers do is in test_subtitles.py."""
    done = main(
        "--quiet", "-f", "vtt,json", "--word_timestamps", "False", "-o", tmp_path, samples / "short.flac"
    )
    assert done.returncode == 0
    files = contents(tmp_path)
    said = recorded(files["short.json"])
    assert all(segment.words is None for segment in said.segments)
    cues = webvtt.from_string(files["short.vtt"]).captions
    assert [cue.text for cue in cues] == [segment.text.strip() for segment in said.segments]
    assert files["short.vtt"].startswith("WEBVTT\n\n00:0")
    options = ["--max_line_width", "12", "--max_line_count", "1", "--highlight_words", "True"]
    done = main("--quiet", "-f", "srt,json", *options, "-o", tmp_path, samples / "short.flac")
    assert (done.returncode, done.stderr) == (0, "")
    files = contents(tmp_path)
    lines = Lines(max_line_width=12, max_line_count=1, highlight_words=True)
    assert files["short.srt"] == formats.written(recorded(files["short.json"]), ["srt"], lines)["srt"]
    assert "<u>" in files["short.srt"]


def test_an_option_that_does_nothing_is_told_of(main: Run, samples: Path) -> None:
    done = main("--quiet", "-f", "srt", "--max_line_count", "2", samples / "short.flac")
    assert done.returncode == 0 and "zero" in done.stdout
    assert errors(done) == ["transcribe: --max_line_count does nothing without --max_line_width"]


def test_silence_in_all_formats(main: Run, silence: Path, tmp_path: Path) -> None:
    assert main("--quiet", "-f", "all", "-o", tmp_path / "out", silence).returncode == 0
    files = contents(tmp_path / "out")
    assert json.loads(files.pop("silence.json"))["segments"] == []
    assert files == {
        "silence.txt": "",
        "silence.srt": "",
        "silence.vtt": "WEBVTT\n\n",
        "silence.tsv": "start\tend\ttext\n",
    }


def test_files_are_whole_or_not_there(
    main: Run, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Existing files stay unchanged if the disk is full or a writer fails."""
    for name in ALL:
        (tmp_path / f"short.{name}").write_text("old")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = main("--quiet", "-f", "all", "-o", tmp_path, samples / "short.flac")
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.endswith(f"cannot write to {tmp_path}: No space left on device; check space and permissions")
    assert contents(tmp_path) == {f"short.{name}": "old" for name in ALL}

    def fail(*_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setitem(formats.SUBTITLES, "vtt", fail)
    assert main("--quiet", "-f", "all", "-o", tmp_path, samples / "short.flac").returncode == 4
    assert contents(tmp_path) == {f"short.{name}": "old" for name in ALL}
