"""Writes transcripts as text, in the formats that `-f` offers."""

import json
from collections.abc import Callable
from dataclasses import asdict

from preheat.subtitles import Lines, Subtitles, srt, subtitles, vtt
from preheat.transcript import Transcript


def written(transcript: Transcript, formats: list[str], lines: Lines) -> dict[str, str]:
    """A transcript in each of the formats; `lines`: how to lay out subtitles."""
    shown = subtitles(transcript, lines) if SUBTITLES.keys() & formats else None
    return {
        name: SUBTITLES[name](shown) if shown and name in SUBTITLES else WRITERS[name](transcript)
        for name in formats
    }


def txt(transcript: Transcript) -> str:
    """One line for each segment; empty if nothing was said."""
    return "".join(f"{segment.line}\n" for segment in transcript.segments)


def tsv(transcript: Transcript) -> str:
    """openai/whisper's TSV: start and end in milliseconds, and text, of each segment."""
    rows = [
        (round(1000 * segment.start), round(1000 * segment.end), segment.line.replace("\t", " "))
        for segment in transcript.segments
    ]
    return "".join(f"{start}\t{end}\t{text}\n" for start, end, text in [("start", "end", "text"), *rows])


def to_json(transcript: Transcript) -> str:
    """openai/whisper's JSON on one line, extended by `language_probability` and `complete`."""
    segments = [{"id": i, **asdict(segment)} for i, segment in enumerate(transcript.segments)]
    for segment in segments:
        for name in ("words", "channel"):
            if segment[name] is None:
                del segment[name]
    document = {
        "text": transcript.text,
        "segments": segments,
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "complete": transcript.complete,
    }
    return json.dumps(document, ensure_ascii=False) + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {"txt": txt, "tsv": tsv, "json": to_json}
SUBTITLES: dict[str, Callable[[Subtitles], str]] = {"srt": srt, "vtt": vtt}
FORMATS = ("txt", "srt", "vtt", "tsv", "json")
