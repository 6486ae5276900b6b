"""Word error rate of the fixture model, through transformers' own `generate`.

    .venv/bin/python -m bench.wer [--model DIR] [--windows 300]

prints a table: the committed samples, and (unless --windows 0; needs espeak-ng) freshly synthesised 30 s
windows in voices that were not in the training data. Words are compared without normalisation: all are lower
case, and Whisper's usual normaliser would join "one two" into the number 12.
"""

import argparse
import os
import platform
import random
from pathlib import Path

import jiwer
import numpy as np
import soundfile
import torch
import transformers
from numpy.typing import NDArray
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from bench.harness import ROOT
from preheat.audio.constants import CHUNK_SECONDS, SAMPLE_RATE

FIXTURES = ROOT / "tests" / "fixtures"
CHECKPOINT = FIXTURES / "whisper-nato"
BATCH_SIZE = 16
PHRASES_PER_VOICE = 12
SEED = 1

Audio = NDArray[np.float32]


class Recogniser:
    """A checkpoint, run by transformers: float32, greedy, in English."""

    def __init__(self, checkpoint: Path) -> None:
        self.processor = WhisperProcessor.from_pretrained(checkpoint)
        self.model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)

    def windows(self, recordings: list[Audio], *, timestamps: bool = False) -> list[str]:
        """The text of recordings of at most 30 s, each decoded as one window."""
        features = self.processor.feature_extractor(
            recordings, sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features
        tokens = self.model.generate(
            features, language="en", task="transcribe", num_beams=1, return_timestamps=timestamps
        )
        return self._text(tokens)

    def long_form(self, recording: Audio) -> str:
        """The text of a recording of any length, by the loop and the no-speech rule of the Whisper paper."""
        inputs = self.processor.feature_extractor(
            recording,
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            truncation=False,
            padding="longest" if len(recording) > CHUNK_SECONDS * SAMPLE_RATE else "max_length",
            return_attention_mask=True,
        )
        tokens = self.model.generate(
            inputs.input_features,
            attention_mask=inputs.attention_mask,
            language="en",
            task="transcribe",
            num_beams=1,
            return_timestamps=True,
            temperature=0.0,
            logprob_threshold=-1.0,
            no_speech_threshold=0.6,
        )
        return self._text(tokens)[0]

    def _text(self, tokens: torch.Tensor) -> list[str]:
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]


def sample(name: str) -> tuple[Audio, str]:
    """A committed recording, float32 [samples] at 16 kHz, and its text."""
    audio, rate = soundfile.read(FIXTURES / "samples" / f"{name}.flac", dtype="float32")
    if rate != SAMPLE_RATE or audio.ndim != 1:
        raise ValueError(f"{name}.flac is not 16 kHz mono")
    return audio, (FIXTURES / "samples" / f"{name}.txt").read_text().strip()


def word_error_rate(references: list[str], texts: list[str]) -> float:
    """Wrong, missing and extra words, per word of the references."""
    return float(jiwer.wer(references, texts))


def held_out(windows: int) -> tuple[list[tuple[Audio, str]], list[Audio]]:
    """New windows in held-out voices, with their text, and a fifth of that number without speech."""
    from tests.fixtures.make.speech import HELD_OUT_VARIANTS, Synthesizer, phrase_bank, voices  # noqa: PLC0415  only here,
    from tests.fixtures.make.windows import compose, compose_empty  # noqa: PLC0415  as they need espeak-ng

    random_state = random.Random(SEED)  # noqa: S311  not for security
    bank = phrase_bank(Synthesizer(), voices(HELD_OUT_VARIANTS), PHRASES_PER_VOICE, random_state)
    spoken = [compose(bank, CHUNK_SECONDS, random_state) for _ in range(windows)]
    empty = [compose_empty(CHUNK_SECONDS, random_state) for _ in range(windows // 5)]
    return [(window.audio, window.text) for window in spoken], [window.audio for window in empty]


def in_batches(recogniser: Recogniser, recordings: list[Audio], *, timestamps: bool) -> list[str]:
    """The texts of windows, decoded in batches."""
    texts: list[str] = []
    for first in range(0, len(recordings), BATCH_SIZE):
        texts += recogniser.windows(recordings[first : first + BATCH_SIZE], timestamps=timestamps)
    return texts


def row(name: str, references: list[str], texts: list[str]) -> None:
    """Print one line of the table."""
    words = sum(len(reference.split()) for reference in references)
    print(f"{name:44} {words:6} words   {100 * word_error_rate(references, texts):5.2f} %", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Word error rate through transformers' generate.")
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="checkpoint folder")
    parser.add_argument("--windows", type=int, default=300, help="fresh held-out windows; 0 for none")
    arguments = parser.parse_args()
    recogniser = Recogniser(arguments.model)
    print(
        f"{os.cpu_count()} cores {platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, float32, greedy"
    )
    audio, text = sample("short")
    row("short.flac, one window", [text], recogniser.windows([audio]))
    audio, text = sample("long")
    row("long.flac, long form", [text], [recogniser.long_form(audio)])
    print(f"{'noise.flac, long form':44} text: {recogniser.long_form(sample('noise')[0])!r}")
    if arguments.windows:
        spoken, empty = held_out(arguments.windows)
        recordings, references = [audio for audio, _ in spoken], [text for _, text in spoken]
        for timestamps in (False, True):
            name = f"{len(spoken)} held-out windows, {'with' if timestamps else 'without'} timestamps"
            row(name, references, in_batches(recogniser, recordings, timestamps=timestamps))
            texts = in_batches(recogniser, empty, timestamps=timestamps)
            print(f"{'  without speech':44} {sum(map(bool, texts))} of {len(empty)} windows with text")


if __name__ == "__main__":
    main()
