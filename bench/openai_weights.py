"""Converts a checkpoint of transformers for openai/whisper's model class."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

NAMES = (  # replaced in this order: some names are parts of others
    ("model.", ""),
    ("layers.", "blocks."),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn_layer_norm", "attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder_attn.", "cross_attn."),
    ("self_attn.", "attn."),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens", "token_embedding"),
)


def dimensions(checkpoint: Path, whisper: Any) -> Any:
    """openai/whisper's ModelDimensions of a checkpoint, from its config.json."""
    config = json.loads((checkpoint / "config.json").read_text())
    return whisper.ModelDimensions(
        n_mels=config["num_mel_bins"],
        n_audio_ctx=config["max_source_positions"],
        n_audio_state=config["d_model"],
        n_audio_head=config["encoder_attention_heads"],
        n_audio_layer=config["encoder_layers"],
        n_vocab=config["vocab_size"],
        n_text_ctx=config["max_target_positions"],
        n_text_state=config["d_model"],
        n_text_head=config["decoder_attention_heads"],
        n_text_layer=config["decoder_layers"],
    )


def tensors(model: Path) -> dict[str, Any]:
    """The tensors of a checkpoint under openai/whisper's names."""
    renamed = {}
    for name, tensor in load_file(model / "model.safetensors").items():
        for old, new in NAMES:
            name = name.replace(old, new)  # noqa: PLW2901  replacements add up
        renamed[name] = tensor
    return renamed
