"""The options of a transcription, for the command line and the library."""

from dataclasses import dataclass

from preheat.audio.constants import CHUNK_SECONDS


@dataclass(frozen=True)
class Options:
    """How to transcribe; names and defaults are those of openai/whisper, where it has the option."""

    language: str | None = None  # None: detect it
    task: str = "transcribe"  # or "translate", to English
    initial_prompt: str | None = None
    condition_on_previous_text: bool = True  # with sequential decoding only
    temperature: tuple[float, ...] = (
        0.0,
        0.2,
        0.4,
        0.6,
        0.8,
        1.0,
    )  # tried in order until a result passes the thresholds
    best_of: int = 5  # samples at a temperature above 0
    compression_ratio_threshold: float | None = 2.4  # above it, text is too repetitive
    logprob_threshold: float | None = -1.0  # below it, text is too improbable
    no_speech_threshold: float | None = 0.6  # above it, and with improbable text, there is no speech
    word_timestamps: bool = False
    audio_track: int = 0  # number of the audio track, from 1; 0: the main one
    channels: bool = False  # transcribe each channel of a recording on its own
    # How a recording is cut into windows; not used by sequential decoding.
    vad_threshold: float = 0.25  # probability above which speech begins
    vad_min_silence_duration_ms: int = 160  # a shorter silence is part of the speech
    chunk_size: float = 30.0  # seconds that a window may have, where there is a silence to cut at

    def __post_init__(self) -> None:
        """Raise UsageError for a value that means nothing."""
        degrees = self.temperature
        for name, right, wanted in (
            ("task", self.task in ("transcribe", "translate"), "transcribe or translate"),
            ("temperature", degrees and all(0 <= t <= 1 for t in degrees), "a tuple of numbers from 0 to 1"),
            ("best_of", self.best_of >= 1, "a whole number of 1 or more"),
            ("audio_track", self.audio_track >= 0, "a whole number of 1 or more, or 0 for the main one"),
            ("vad_threshold", 0 < self.vad_threshold < 1, "a probability, between 0 and 1"),
            ("vad_min_silence_duration_ms", self.vad_min_silence_duration_ms >= 0, "0 ms or more"),
            (
                "chunk_size",
                1 <= self.chunk_size <= CHUNK_SECONDS,
                "1 to 30 s, the length of Whisper's window",
            ),
        ):
            if not right:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {wanted}")


class UsageError(Exception):
    """Options that contradict each other or name something that does not exist: one line, cause and cure."""
