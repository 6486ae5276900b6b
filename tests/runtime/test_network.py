"""whisper.py and decoding.py compute what transformers computes."""

from pathlib import Path
from typing import Any

import audio
import checkpoint
import decoding
import pytest
import torch
from layout import Dimensions
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from whisper import Whisper

WINDOW_FRAMES = 3000  # of a real Whisper: 30 s

Pair = tuple[Any, Whisper, decoding.Vocabulary]  # Any: transformers' methods have no types

# Unlike the fixture in every number, and in which half is the deeper one.
SHAPES = {
    "narrow": {
        "d_model": 48,
        "encoder_layers": 3,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 100,
        "decoder_layers": 1,
        "decoder_attention_heads": 3,
        "decoder_ffn_dim": 60,
        "num_mel_bins": 128,
        "max_source_positions": 200,
        "max_target_positions": 96,
    },
    "deep": {
        "d_model": 64,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 256,
        "decoder_layers": 4,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 128,
        "num_mel_bins": 80,
        "max_source_positions": 600,
        "max_target_positions": 120,
    },
}


def random_checkpoint(folder: Path, shape: dict[str, int], source: Path) -> None:
    """A model with random weights everywhere, biases and norms included; tokenizer of the fixture."""
    tokenizer = WhisperTokenizer.from_pretrained(source)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        suppress_tokens=[11, 13],
        begin_suppress_tokens=[220, tokenizer.eos_token_id],
        **shape,  # type: ignore[arg-type]  # all of them are integers
    )
    torch.manual_seed(sum(shape.values()))
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(mean=1.0 if "norm.weight" in name else 0.0, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor: Any = WhisperFeatureExtractor
    extractor(feature_size=shape["num_mel_bins"]).save_pretrained(folder)


@pytest.fixture(scope="module", params=["fixture", *SHAPES])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path
) -> Pair:
    """The same weights in transformers' network and in ours."""
    folder = checkpoint_folder
    if request.param != "fixture":
        folder = tmp_path_factory.mktemp(request.param)
        random_checkpoint(folder, SHAPES[request.param], checkpoint_folder)
    tensors, metadata = checkpoint.pack(folder, torch.float32)
    theirs: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    ours = Whisper(tensors, Dimensions.from_json(metadata["dimensions"]))
    return theirs.eval(), ours, decoding.Vocabulary(metadata)


def random_mel(network: Whisper, windows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (windows, network.dims.num_mel_bins, 2 * network.dims.max_source_positions)
    return torch.randn(shape, generator=generator) * 0.5


def mel_to_decode(network: Whisper, samples: Path) -> torch.Tensor:
    """Two windows that the network has something to say to: the trained one wants speech."""
    frames = 2 * network.dims.max_source_positions
    if frames < WINDOW_FRAMES:
        return random_mel(network, windows=2)
    mel = audio.log_mel(audio.decode(samples / "long.flac"), network.window, network.filters)
    return torch.stack((mel[:, :frames], mel[:, frames : 2 * frames]))


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@torch.inference_mode()
def test_logits_agree(pair: Pair) -> None:
    """For a batch, in one pass and step by step from the cache."""
    theirs, ours, _ = pair
    mel = random_mel(ours, windows=2)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(ours.dims.vocab_size, (2, 9), generator=generator)
    wanted = theirs(input_features=mel, decoder_input_ids=tokens).logits
    features = ours.encode(mel)
    assert relative_error(features, theirs.model.encoder(mel).last_hidden_state) < 1e-4
    assert relative_error(ours.decode(tokens, ours.cache(features)), wanted) < 1e-4
    cache = ours.cache(features)
    steps = [ours.decode(piece, cache) for piece in torch.split(tokens, [4, 1, 1, 2, 1], dim=1)]
    assert relative_error(torch.cat(steps, dim=1), wanted) < 1e-4


@pytest.mark.parametrize("latest_start", [None, 20])
def test_greedy_tokens_agree(pair: Pair, latest_start: int | None, samples: Path) -> None:
    """A batch of windows decoded with timestamps, by transformers' generate and by ours.

    `latest_start` is max_initial_timestamp_index, or no such limit.
    """
    theirs, ours, vocabulary = pair
    vocabulary.max_initial_timestamp = latest_start
    mel = mel_to_decode(ours, samples)
    longest = ours.dims.max_target_positions // 2
    settings: Any = GenerationConfig
    theirs.generation_config = settings(
        decoder_start_token_id=vocabulary.start,
        eos_token_id=vocabulary.end,
        pad_token_id=vocabulary.end,
        lang_to_id={f"<|{code}|>": id_ for code, id_ in vocabulary.languages.items()},
        task_to_id={"transcribe": vocabulary.transcribe},
        no_timestamps_token_id=vocabulary.no_timestamps,
        is_multilingual=True,
        suppress_tokens=vocabulary.suppressed,
        begin_suppress_tokens=vocabulary.begin_suppressed or None,
        max_initial_timestamp_index=latest_start,
    )
    generated: Any = theirs.generate(
        mel,
        language="en",
        task="transcribe",
        return_timestamps=True,
        do_sample=False,
        num_beams=1,
        max_new_tokens=longest,
        return_segments=True,
    )
    # Each segment carries all that was generated for its window, prompt and end included.
    rows = [segments[0]["result"].tolist() for segments in generated["segments"]]
    wanted = [[token for token in row[3:] if token != vocabulary.end] for row in rows]
    results = decoding.decode(ours, vocabulary, ours.encode(mel), vocabulary.prompt("en"))
    assert [result.tokens for result in results] == wanted
    assert all(len(row) > 1 for row in wanted)
