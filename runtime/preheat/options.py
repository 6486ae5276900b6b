"""What can be asked for, however it is asked: how to transcribe."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How to transcribe; the names and defaults are openai/whisper's."""

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


class UsageError(Exception):
    """Options that do not go together, or name what there is not: one line with cause and cure."""
