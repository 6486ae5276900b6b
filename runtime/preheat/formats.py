"""Transcripts as text: what `-f` can name."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Word:
    """One word and when it is said, in seconds of the recording."""

    word: str  # as decoded, so mostly with a space in front
    start: float
    end: float
    probability: float  # mean of its tokens'


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, as openai/whisper describes it; times in seconds of the recording."""

    seek: int  # log-mel frame (10 ms) at which the window began
    start: float
    end: float
    text: str  # as decoded, so mostly with a space in front
    tokens: list[int]  # with its timestamps
    temperature: float  # at which the window was decoded
    avg_logprob: float  # of the window's tokens
    compression_ratio: float  # of the window's text
    no_speech_prob: float  # of the window
    words: list[Word] | None = None  # if they were asked for


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording."""

    language: str  # code, as in "en"
    segments: list[Segment]
    language_probability: float | None = None  # 0 to 1; None if the language was not detected
    complete: bool = True  # False where a part of the recording could not be read


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
