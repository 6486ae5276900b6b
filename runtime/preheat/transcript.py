"""What was said in a recording: words in segments in a transcript."""

from dataclasses import dataclass


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
    incomplete: str | None = None  # what of the recording could not be read, in one line; None: nothing

    @property
    def complete(self) -> bool:
        """Whether all of the recording could be read."""
        return self.incomplete is None

    @property
    def text(self) -> str:
        """All segments' text, as decoded, so mostly with a space in front."""
        return "".join(segment.text for segment in self.segments)
