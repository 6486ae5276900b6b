"""What can be asked for, however it is asked: how to transcribe."""

from dataclasses import dataclass

from preheat.audio.constants import CHUNK_SECONDS


@dataclass(frozen=True)
class Options:
    """How to transcribe; the names and defaults are openai/whisper's, where it has them."""

    language: str | None = None  # None: the one detected
    task: str = "transcribe"  # or "translate", to English
    initial_prompt: str | None = None
    condition_on_previous_text: bool = True  # in the sequential way only
    temperature: tuple[float, ...] = (
        0.0,
        0.2,
        0.4,
        0.6,
        0.8,
        1.0,
    )  # one after the other, while a result fails
    best_of: int = 5  # samples at a temperature above 0
    compression_ratio_threshold: float | None = 2.4  # above it, text is too repetitive
    logprob_threshold: float | None = -1.0  # below it, text is too improbable
    no_speech_threshold: float | None = 0.6  # above it, and with improbable text, there is no speech
    word_timestamps: bool = False
    audio_track: int = 0  # of a recording with several, from 1 on; 0: the main one
    channels: bool = False  # each channel of a recording on its own
    # How a recording is cut into windows, which the sequential way does by itself.
    vad_threshold: float = 0.25  # probability above which speech begins
    vad_min_silence_duration_ms: int = 160  # a shorter silence is part of the speech
    chunk_size: float = 30.0  # seconds that a window may have, where there is a silence to cut at

    def __post_init__(self) -> None:
        """Raise UsageError for a value that means nothing."""
        degrees = self.temperature
        for name, right, wanted in (
            ("task", self.task in ("transcribe", "translate"), "transcribe or translate"),
            ("temperature", degrees and all(0 <= t <= 1 for t in degrees), "a tuple of numbers from 0 to 1"),
            ("best_of", self.best_of >= 1, "a whole number from 1 on"),
            ("audio_track", self.audio_track >= 0, "a whole number from 1 on, or 0 for the main one"),
            ("vad_threshold", 0 < self.vad_threshold < 1, "a probability, between 0 and 1"),
            ("vad_min_silence_duration_ms", self.vad_min_silence_duration_ms >= 0, "0 ms or more"),
            ("chunk_size", 1 <= self.chunk_size <= CHUNK_SECONDS, "1 to 30 s, what Whisper hears at a time"),
        ):
            if not right:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {wanted}")


class UsageError(Exception):
    """Options that do not go together, or name what there is not: one line with cause and cure."""
