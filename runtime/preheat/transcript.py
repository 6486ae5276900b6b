"""The result of a transcription: a transcript of segments of words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """One word and when it is said, in seconds of the recording."""

    word: str  # as decoded, usually with a leading space
    start: float
    end: float
    probability: float  # mean of its tokens' probabilities


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, as openai/whisper describes it; times in seconds of the recording."""

    seek: int  # log-mel frame (10 ms) at which the window began
    start: float
    end: float
    text: str  # as decoded, usually with a leading space
    tokens: list[int]  # including timestamps
    temperature: float  # at which the window was decoded
    avg_logprob: float  # of the window's tokens
    compression_ratio: float  # of the window's text
    no_speech_prob: float  # of the window
    words: list[Word] | None = None  # if asked for
    channel: str | None = None  # its channel's name, if channels were transcribed separately

    @property
    def line(self) -> str:
        """The text, prefixed by the channel if there is one."""
        text = self.text.strip()
        return f"{self.channel}: {text}" if self.channel else text


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording."""

    language: str  # code, as in "en"
    segments: list[Segment]
    language_probability: float | None = None  # 0 to 1; None if the language was not detected
    incomplete: str | None = None  # what could not be read, in one line; None: nothing

    @property
    def complete(self) -> bool:
        """Whether all of the recording could be read."""
        return self.incomplete is None

    @property
    def text(self) -> str:
        """The text of all segments, as decoded, usually with a leading space."""
        return "".join(segment.text for segment in self.segments)


def merged(channels: Mapping[str | None, Transcript]) -> Transcript:
    """Merge the transcripts of channels by time; the language is that of the channel with most text."""
    found = list(channels.values())
    if len(found) == 1:
        return found[0]
    segments = [replace(segment, channel=name) for name in channels for segment in channels[name].segments]
    return replace(
        max(found, key=lambda transcript: len(transcript.text)),
        segments=sorted(segments, key=lambda segment: segment.start),
        incomplete=next((each.incomplete for each in found if each.incomplete), None),
    )
