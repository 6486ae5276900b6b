"""Whisper checkpoints of the real sizes with random weights that give predetermined tokens.

    .venv/bin/python -m bench.shapes large-v3 --tokens 100 --output DIR

Loading and computing take as long as with trained weights, which are not available everywhere. But purely
random weights would generate gibberish, of a different length in every program. So the decoder's position
embeddings determine the tokens: position k is a large multiple of the embedding of the token wanted after
position k. The token embedding is also the output projection, and random embeddings are nearly orthogonal, so
that token wins by a wide margin for any audio. What the decoder's layers add to the residual stream is small,
though it costs as much as with trained weights.

So each window yields the same tokens in every system: segments of different words between pairs of rising
timestamps, then the end of text. Neither the timestamp rules nor any threshold (compression, probability, no
speech) interferes, as long as the prompt is <|startoftranscript|><|en|><|transcribe|>, which means: language
given, timestamps on, no text of previous windows.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import sinusoids
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from bench.words import Words, tokenizer

SECONDS_PER_TOKEN = 0.2  # so that 100 tokens end at 20 s, within most windows
TOKENS_PER_SEGMENT = 25
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>")
LOUDNESS = 100  # of a position embedding, relative to a token embedding
CONFIDENCE = 30  # logit of the wanted token; the others' standard deviation is about 30 / sqrt(width)
WEIGHTS = 0.02  # standard deviation, as transformers initialises Whisper
BLOCKS = 1e-3  # the same for output projections in the decoder; float16 can still represent it


@dataclass(frozen=True)
class Shape:
    """The dimensions in which Whisper models differ."""

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    mel_bins: int
    alignment_heads: tuple[tuple[int, int], ...]  # (layer, head), as published


SHAPES = {
    "nano": Shape(64, 1, 2, 1, 80, ((1, 0),)),  # not a real one: for trying out the benchmarks
    "tiny": Shape(384, 4, 4, 6, 80, ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5))),
    "turbo": Shape(1280, 32, 4, 20, 128, ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14))),
    "large-v3": Shape(
        1280,
        32,
        32,
        20,
        128,
        ((7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1), (25, 6)),
    ),
}


def write(shape: Shape, tokens: int, folder: Path) -> None:
    """Write a checkpoint in the hub's layout, float16; each window yields `tokens` tokens."""
    words = Words.make()
    settings, tensors = network(shape, tokens, words)
    folder.mkdir(parents=True)
    tokenizer()[0].save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=shape.mel_bins).save_pretrained(folder)  # type: ignore[no-untyped-call]  # transformers'
    generation(shape, words).save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings.save_pretrained(folder)  # config.json last: without it the folder is not taken for a checkpoint


def network(
    shape: Shape, tokens: int, words: Words, device: str = "cpu"
) -> tuple[WhisperConfig, dict[str, Tensor]]:
    """The configuration and the tensors of transformers' network, float16, made on a device."""
    torch.manual_seed(1)
    settings = configuration(shape, words.ids)
    with torch.device("meta"):  # names and shapes only
        empty = WhisperForConditionalGeneration(settings)
    tensors = {
        name: values(name, tensor, device).half()
        for name, tensor in empty.state_dict().items()
        if name != "proj_out.weight"  # the same tensor as the token embedding
    }
    wanted = [*PROMPT[1:], *script(tokens, words.plain)]
    wanted += ["<|endoftext|>"] * (settings.max_target_positions - len(wanted))
    embedding = tensors["model.decoder.embed_tokens.weight"]
    spoken = [words.ids[name] for name in wanted]
    tensors["model.decoder.embed_positions.weight"] = LOUDNESS * embedding[spoken]
    return settings, tensors


def script(tokens: int, words: list[str]) -> list[str]:
    """The tokens of a window, `tokens` in all; the first and last of each segment are timestamps."""
    segments = max(1, round(tokens / TOKENS_PER_SEGMENT))
    random_state = random.Random(1)  # noqa: S311  not for security
    # All different: a repetitive text would fail the compression threshold.
    chosen = random_state.sample(words, tokens - 2 * segments)
    bounds = [len(chosen) * i // segments for i in range(segments + 1)]
    times = [round(tokens * SECONDS_PER_TOKEN * i / segments / 0.02) * 0.02 for i in range(segments + 1)]
    said = []
    for i in range(segments):
        said += [f"<|{times[i]:.2f}|>", *chosen[bounds[i] : bounds[i + 1]], f"<|{times[i + 1]:.2f}|>"]
    return said


def values(name: str, like: Tensor, device: str) -> Tensor:
    """Values for a tensor, float32: random, except encoder positions, biases and layer norms."""

    if name == "model.encoder.embed_positions.weight":
        return sinusoids(*like.shape).to(device)
    if name.endswith("bias"):
        return torch.zeros(like.shape, device=device)
    if "layer_norm" in name:
        return torch.ones(like.shape, device=device)
    scale = WEIGHTS
    if name == "model.decoder.embed_tokens.weight":
        scale = CONFIDENCE / like.shape[1]
    elif name.startswith("model.decoder.") and name.endswith(("out_proj.weight", "fc2.weight")):
        scale = BLOCKS
    return torch.randn(like.shape, device=device) * scale


def configuration(shape: Shape, ids: dict[str, int]) -> WhisperConfig:
    """The contents of config.json."""

    end = ids["<|endoftext|>"]
    return WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        bos_token_id=end,
        d_model=shape.width,
        decoder_attention_heads=shape.heads,
        decoder_ffn_dim=4 * shape.width,
        decoder_layers=shape.decoder_layers,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        dtype="float16",
        encoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        encoder_layers=shape.encoder_layers,
        eos_token_id=end,
        num_mel_bins=shape.mel_bins,
        pad_token_id=end,
        vocab_size=len(ids),
    )


def generation(shape: Shape, words: Words) -> GenerationConfig:
    """The contents of generation_config.json, with the fields of large-v3's."""

    ids = words.ids
    end = ids["<|endoftext|>"]
    never = ["startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech"]
    return GenerationConfig(  # type: ignore[no-untyped-call]  # transformers'
        alignment_heads=[list(head) for head in shape.alignment_heads],
        begin_suppress_tokens=[ids["Ġ"], end],
        bos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=end,
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": ids[f"<|{language}|>"] for language in LANGUAGES},
        max_initial_timestamp_index=50,
        max_length=448,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        pad_token_id=end,
        prev_sot_token_id=ids["<|startofprev|>"],
        return_timestamps=False,
        suppress_tokens=sorted([*words.quiet, *(ids[f"<|{name}|>"] for name in never)]),
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
    )


def main() -> None:
    """Write one checkpoint."""
    parser = argparse.ArgumentParser(description="A Whisper checkpoint of a real size with random weights.")
    parser.add_argument("shape", choices=list(SHAPES))
    parser.add_argument(
        "--tokens", type=int, default=100, help="that each window yields (default %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="a folder that is not there"
    )
    arguments = parser.parse_args()
    write(SHAPES[arguments.shape], arguments.tokens, arguments.output)


if __name__ == "__main__":
    main()
