"""Transcribes a recording with another program, in a process that does nothing else.

    .venv/bin/python -m bench.peers transformers --model DIR --checkpoint DIR --dtype float32 short.flac

prints the text, and on stderr the same timings as `transcribe --timings=json`, by the same clock, with the
numbers of windows decoded and tokens generated. `--model` is in the form that the program loads (models.py),
`--checkpoint` is the folder with tokenizer and feature settings.

All programs have the same settings: greedy, language English, timestamps on, no text of previous windows as a
prompt, no temperature fallback. All get samples that were read by libsndfile; everything after that, features
included, is model time. Nothing is warmed up, so the first window's extra cost is included, as it is for
`transcribe`.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.device import settle
from preheat.audio.constants import CHUNK_SECONDS, SAMPLE_RATE
from preheat.timing import Log, now

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Audio = NDArray[np.float32]  # [samples] at 16 kHz

WINDOW = CHUNK_SECONDS * SAMPLE_RATE  # samples


@dataclass(frozen=True)
class Heard:
    """The result for a recording."""

    text: str
    windows: int  # encoded: 30 s each
    tokens: int  # generated: words and timestamps, without prompt and end of text


Transcriber = Callable[["Audio"], Heard]

# ruff: noqa: PLC0415  imports are measured, each program's own only


def transformers(args: argparse.Namespace, log: Log) -> Transcriber:
    """transformers: `from_pretrained`, then `generate`, which handles long recordings itself.

    Moved to a GPU by `to`: `device_map` is faster but needs accelerate, which is not in the lock.
    """
    with log.phase("import torch"):
        import torch
    with log.phase("import transformers"):
        from transformers import WhisperForConditionalGeneration
    with log.phase("load model"):
        model = WhisperForConditionalGeneration.from_pretrained(
            args.model, dtype=getattr(torch, args.dtype), local_files_only=True
        )
        return generate(args, model.to(args.device))


def pickled(args: argparse.Namespace, log: Log) -> Transcriber:
    """The whole model object from a pickle, then `generate`."""
    with log.phase("import torch"):
        import torch
    with log.phase("import transformers"):
        # The pickle would import this while loading; here it is timed separately.
        import transformers.models.whisper.modeling_whisper  # noqa: F401  only to time it
    with log.phase("load model"):
        return generate(args, torch.load(args.model, map_location=args.device, weights_only=False))


def generate(args: argparse.Namespace, model: Any) -> Transcriber:
    """A transcriber that calls `generate` of a loaded model."""
    from transformers import WhisperProcessor

    processor = WhisperProcessor.from_pretrained(args.checkpoint, local_files_only=True)
    windows = counter(model)
    settle(args.device)

    def transcribe(audio: "Audio") -> Heard:
        inputs = processor.feature_extractor(
            audio,
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            truncation=False,
            padding="longest" if len(audio) > WINDOW else "max_length",
            return_attention_mask=True,
        )
        found = model.generate(
            inputs.input_features.to(model.device, model.dtype),
            attention_mask=inputs.attention_mask.to(model.device),
            language="en",
            task="transcribe",
            num_beams=1,
            do_sample=False,
            return_timestamps=True,
            return_segments=True,
            condition_on_prev_tokens=False,
        )
        ids = [token for segment in found["segments"][0] for token in segment["tokens"].tolist()]
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        return Heard(text, sum(windows), len(ids))

    return transcribe


def pipeline(args: argparse.Namespace, log: Log) -> Transcriber:
    """transformers' pipeline with chunks of 30 s that overlap both neighbours by 5 s.

    One beam, like all other systems here; its default is five.
    """
    with log.phase("import torch"):
        import torch
    with log.phase("import transformers"):
        import transformers as library
    with log.phase("load model"):
        model: Any = library.WhisperForConditionalGeneration.from_pretrained(
            args.model, dtype=getattr(torch, args.dtype), local_files_only=True
        )
        processor = library.WhisperProcessor.from_pretrained(args.checkpoint, local_files_only=True)
        processor.tokenizer.pad_token_id = model.config.eos_token_id  # needed for batches
        recognise: Any = library.pipeline(
            "automatic-speech-recognition",
            model=model.to(args.device),
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=args.device,
            chunk_length_s=30,
            batch_size=args.batch,
        )
        windows = counter(model)
        generated: list[int] = []
        inner, end = model.generate, model.generation_config.eos_token_id

        def counting(*positional: Any, **named: Any) -> Any:
            sequences = inner(*positional, **named)
            generated.append(int((sequences != end).sum()))
            return sequences

        model.generate = counting
        settle(args.device)

    def transcribe(audio: "Audio") -> Heard:
        options = {"language": "en", "task": "transcribe", "num_beams": 1, "do_sample": False}
        recording = {"raw": audio, "sampling_rate": SAMPLE_RATE}
        found = recognise(recording, return_timestamps=True, generate_kwargs=options)
        return Heard(found["text"], sum(windows), sum(generated))

    return transcribe


def faster_whisper(args: argparse.Namespace, log: Log) -> Transcriber:
    """faster-whisper, one window after the other."""
    return ctranslate2(args, log, batched=False)


def faster_whisper_batched(args: argparse.Namespace, log: Log) -> Transcriber:
    """faster-whisper in batches of windows, cut at silence by its voice activity detection."""
    return ctranslate2(args, log, batched=True)


def ctranslate2(args: argparse.Namespace, log: Log, *, batched: bool) -> Transcriber:
    """faster-whisper, with its class for batches or the other one."""
    with log.phase("import faster-whisper"):
        from faster_whisper import BatchedInferencePipeline, WhisperModel
    with log.phase("load model"):
        model = WhisperModel(
            str(args.model),
            device=args.device,
            compute_type=args.dtype,
            cpu_threads=threads(),
            local_files_only=True,
        )
        batches = BatchedInferencePipeline(model)

    def transcribe(audio: "Audio") -> Heard:
        same = {"language": "en", "beam_size": 1, "temperature": 0.0, "without_timestamps": False}
        if batched:
            found, _ = batches.transcribe(audio, batch_size=args.batch, **same)
        else:
            found, _ = model.transcribe(audio, vad_filter=False, condition_on_previous_text=False, **same)
        segments = list(found)
        text = "".join(segment.text for segment in segments)
        tokens = sum(len(segment.tokens) for segment in segments)
        return Heard(text, len({segment.seek for segment in segments}), tokens)

    return transcribe


def openai(args: argparse.Namespace, log: Log) -> Transcriber:
    """openai/whisper with the weights of a checkpoint of transformers."""
    with log.phase("import torch"):
        import torch  # noqa: F401  to time it separately
    with log.phase("import whisper"):
        import whisper

        from bench import openai_weights
    with log.phase("load model"):
        model = whisper.Whisper(openai_weights.dimensions(args.checkpoint, whisper))
        model.load_state_dict(openai_weights.tensors(args.model))
        model = model.to(args.device).eval()
        windows = counter(model)
        settle(args.device)

    def transcribe(audio: "Audio") -> Heard:
        found = model.transcribe(
            audio,
            language="en",
            temperature=0.0,
            fp16=args.dtype == "float16",
            condition_on_previous_text=False,
        )
        tokens = sum(len(segment["tokens"]) for segment in found["segments"])
        return Heard(found["text"], sum(windows), tokens)

    return transcribe


def counter(model: Any) -> list[int]:
    """A list to which each call of the encoder appends its number of windows."""
    windows: list[int] = []
    encoder = model.encoder if hasattr(model, "encoder") else model.get_encoder()

    def count(_module: Any, _inputs: Any, output: Any) -> None:
        features = output if hasattr(output, "shape") else output[0]  # [windows, positions, width]
        windows.append(len(features))

    encoder.register_forward_hook(count)
    return windows


def threads() -> int:
    """The number of threads that torch uses."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))


def decode(path: Path) -> "Audio":
    """A recording at 16 kHz, mono."""
    import soundfile

    audio: Audio
    audio, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE or audio.ndim != 1:
        raise SystemExit(f"{path} is not 16 kHz mono")
    return audio


PEERS: dict[str, Callable[[argparse.Namespace, Log], Transcriber]] = {
    "transformers": transformers,
    "pickled": pickled,
    "pipeline": pipeline,
    "faster-whisper": faster_whisper,
    "faster-whisper-batched": faster_whisper_batched,
    "openai": openai,
}


def main() -> None:
    """Run one program."""
    parser = argparse.ArgumentParser(description="One recording through another program.")
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("audio", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--batch", type=int, default=8, help="windows at a time, where it does so")
    args = parser.parse_args()
    log = Log(quiet=True)
    transcribe = PEERS[args.peer](args, log)
    ready = now()
    with log.phase("decode audio"):
        audio = decode(args.audio)
    with log.phase("transcribe"):
        heard = transcribe(audio)
    print(heard.text)
    log.report(
        "json",
        {
            "dtype": args.dtype,
            "load_s": round(log.seconds("load model"), 3),
            "ready_s": round(ready, 3),
            "audio_s": round(len(audio) / SAMPLE_RATE, 3),
            "decode_s": round(log.seconds("transcribe"), 3),
            "total_s": round(now(), 3),
            "windows": heard.windows,
            "tokens": heard.tokens,
        },
    )


if __name__ == "__main__":
    main()
