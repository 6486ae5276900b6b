"""Transcripts as text: what `-f` can name."""

import json
from collections.abc import Callable
from dataclasses import asdict

from transcript import Transcript


def txt(transcript: Transcript) -> str:
    """One line for each segment; nothing at all if nothing was said."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def to_json(transcript: Transcript) -> str:
    """openai/whisper's JSON, on one line, with `language_probability` and `complete`."""
    segments = [{"id": i, **asdict(segment)} for i, segment in enumerate(transcript.segments)]
    for segment in segments:
        if segment["words"] is None:
            del segment["words"]
    text = "".join(segment.text for segment in transcript.segments)
    document = {
        "text": text,
        "segments": segments,
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "complete": transcript.complete,
    }
    return json.dumps(document, ensure_ascii=False) + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {"txt": txt, "json": to_json}
