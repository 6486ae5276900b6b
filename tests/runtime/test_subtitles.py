"""subtitles.py and formats.py: openai/whisper's files byte for byte; ours can be read by other programs."""

import html
import io
from dataclasses import asdict, replace
from typing import Any

import pysubs2
import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st
from whisper.utils import get_writer

from preheat.cues import Cue, cues
from preheat.formats import FORMATS, written
from preheat.subtitles import Lines
from preheat.transcript import Segment, Transcript, Word
from tests.runtime import spoken

SIZES = st.none() | st.sampled_from([1, 2, 3, 5, 10, 42, 100])
LAYOUTS = st.builds(
    Lines,
    max_line_width=SIZES,
    max_line_count=SIZES,
    max_words_per_line=SIZES,
    highlight_words=st.booleans(),
)
SPEECH = st.one_of(spoken.orderly(), spoken.unruly())


def transcript(segments: list[Segment], *, words: bool = True) -> Transcript:
    """With the words of all segments, or none."""
    return Transcript("en", [replace(s, words=s.words or [] if words else None) for s in segments])


def theirs(name: str, transcript: Transcript, lines: Lines) -> str:
    """What openai/whisper's writer makes of the same segments."""
    writer: Any = get_writer(name, ".")
    segments = [asdict(segment) for segment in transcript.segments]
    for segment in segments:
        if segment["words"] is None:
            del segment["words"]
    file = io.StringIO()
    writer.write_result({"segments": segments}, file, asdict(lines))
    return file.getvalue()


@given(SPEECH, LAYOUTS.filter(lambda lines: lines != Lines()))
def test_with_its_options_they_are_those_of_openai_whisper(segments: list[Segment], lines: Lines) -> None:
    said = transcript(segments)
    for name, text in written(said, ["srt", "vtt"], lines).items():
        assert text == theirs(name, said, lines)


@pytest.mark.parametrize(("pause", "cues"), [(2.95, 1), (3.0, 1), (3.05, 2)])
def test_a_long_pause_parts_them_as_in_openai_whisper(pause: float, cues: int) -> None:
    said = transcript([spoken.segment([Word(" one", 0.0, 0.5, 1.0), Word(" two", pause, pause + 0.5, 1.0)])])
    lines = Lines(max_line_width=40, max_line_count=2)
    text = written(said, ["srt"], lines)["srt"]
    assert text == theirs("srt", said, lines) and text.count("-->") == cues


@given(SPEECH)
def test_without_words_they_are_those_of_openai_whisper(segments: list[Segment]) -> None:
    said = transcript(segments, words=False)
    for name, text in written(said, ["srt", "vtt"], Lines()).items():
        assert text == theirs(name, said, Lines())


@given(SPEECH)
def test_tables_and_texts_are_those_of_openai_whisper(segments: list[Segment]) -> None:
    said = transcript(segments)
    for name, text in written(said, ["tsv", "txt"], Lines()).items():
        assert text == theirs(name, said, Lines())


def milliseconds(cue: Cue) -> tuple[int, int]:
    return round(1000 * cue.start), round(1000 * cue.end)


@given(SPEECH)
def test_srt_is_read_by_srt(segments: list[Segment]) -> None:
    said = transcript(segments)
    found = list(srt.parse(written(said, ["srt"], Lines())["srt"]))
    wanted = cues(said.segments)
    assert [cue.index for cue in found] == list(range(1, len(wanted) + 1))
    for cue, ours in zip(found, wanted, strict=True):
        assert (cue.start.total_seconds(), cue.end.total_seconds()) == (ours.start, ours.end)
        assert cue.content == ours.text.replace("-->", "->")


@given(SPEECH)
def test_srt_is_read_by_pysubs2(segments: list[Segment]) -> None:
    """pysubs2 reads two digits of hours only."""
    said = transcript(segments)
    found = pysubs2.SSAFile.from_string(
        written(said, ["srt"], Lines())["srt"], format_="srt", keep_html_tags=True
    )
    for cue, ours in zip(found, cues(said.segments), strict=True):
        assert ours.start >= 360_000 or (cue.start, cue.end) == milliseconds(ours)
        assert cue.text.replace("\\N", "\n") == ours.text.replace("-->", "->")


@given(SPEECH)
def test_vtt_is_read_by_webvtt_py(segments: list[Segment]) -> None:
    said = transcript(segments)
    found = webvtt.from_string(written(said, ["vtt"], Lines())["vtt"]).captions
    for cue, ours in zip(found, cues(said.segments), strict=True):
        assert (cue.start_in_seconds, cue.end_in_seconds) == (int(ours.start), int(ours.end))
        assert (cue.start[-4:], cue.end[-4:]) == (f"{ours.start:.3f}"[-4:], f"{ours.end:.3f}"[-4:])
        assert html.unescape(cue.text) == ours.text


@given(SPEECH)
def test_vtt_is_read_by_pysubs2(segments: list[Segment]) -> None:
    said = transcript(segments)
    found = pysubs2.SSAFile.from_string(written(said, ["vtt"], Lines())["vtt"], format_="vtt")
    for cue, ours in zip(found, cues(said.segments), strict=True):
        assert (cue.start, cue.end) == milliseconds(ours)
        assert html.unescape(cue.text).replace("\\N", "\n") == ours.text


def test_what_webvtt_takes_for_markup_is_escaped() -> None:
    """The parsers above would accept it unescaped, too."""
    said = transcript([spoken.segment(spoken.speech("R&D <b> --> &amp;"))])
    text = written(said, ["vtt"], Lines())["vtt"]
    assert text == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nR&amp;D &lt;b&gt; --&gt; &amp;amp;\n\n"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")],
)
def test_silence(name: str, wanted: str) -> None:
    for lines in (Lines(), Lines(max_line_width=10)):
        assert written(transcript([]), [name], lines) == {name: wanted}


def test_right_to_left_text_stays_in_the_order_it_is_said() -> None:
    said = transcript([spoken.segment(spoken.speech("مرحبا بالعالم؟ هذا اختبار.", pace=0.09))])
    text = written(said, ["srt"], Lines())["srt"]
    assert [cue.content for cue in srt.parse(text)] == ["مرحبا بالعالم؟", "هذا اختبار."]


def test_each_format_once_in_order() -> None:
    assert list(written(transcript([]), list(FORMATS), Lines())) == ["txt", "srt", "vtt", "tsv", "json"]
