"""The packed tensors of a Whisper network: its dimensions, which determine every name and shape.

Nothing here needs torch: a state file's header is checked while torch is still being imported.
"""

import json
from dataclasses import dataclass

from preheat.audio.constants import N_FFT


@dataclass(frozen=True)
class Dimensions:
    """The numbers that determine every tensor's shape, named as in transformers' WhisperConfig."""

    num_mel_bins: int
    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    max_source_positions: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    max_target_positions: int
    vocab_size: int

    @classmethod
    def from_json(cls, text: str) -> "Dimensions":
        """The `dimensions` of a state file. Raises ValueError or TypeError if they cannot be."""
        dims = cls(**json.loads(text))
        if not all(isinstance(value, int) and value > 0 for value in vars(dims).values()):
            raise ValueError(f"has impossible dimensions: {dims}")
        return dims


def layout(dims: Dimensions) -> dict[str, tuple[int, ...]]:
    """Name and shape of every packed tensor, in the order in which the network reads them.

    `audio.*` are always float32, everything else is of the network's dtype. `qkv` stacks query, key and
    value along the rows, `kv` key and value; Whisper's key projection has no bias, so its rows are 0.
    """
    d = dims.d_model
    shapes: dict[str, tuple[int, ...]] = {
        "audio.window": (N_FFT,),
        "audio.filters": (dims.num_mel_bins, N_FFT // 2 + 1),
    }

    def add(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    def block(name: str, ffn: int, *, cross: bool) -> None:
        add(f"{name}.attention.norm", d)
        add(f"{name}.attention.qkv", 3 * d, d)
        add(f"{name}.attention.out", d, d)
        if cross:
            add(f"{name}.cross.norm", d)
            add(f"{name}.cross.query", d, d)
            add(f"{name}.cross.kv", 2 * d, d)
            add(f"{name}.cross.out", d, d)
        add(f"{name}.mlp.norm", d)
        add(f"{name}.mlp.up", ffn, d)
        add(f"{name}.mlp.down", d, ffn)

    add("encoder.conv1", d, dims.num_mel_bins, 3)
    add("encoder.conv2", d, d, 3)
    shapes["encoder.positions"] = (dims.max_source_positions, d)
    for i in range(dims.encoder_layers):
        block(f"encoder.{i}", dims.encoder_ffn_dim, cross=False)
    add("encoder.norm", d)
    shapes["decoder.tokens"] = (dims.vocab_size, d)
    shapes["decoder.positions"] = (dims.max_target_positions, d)
    for i in range(dims.decoder_layers):
        block(f"decoder.{i}", dims.decoder_ffn_dim, cross=True)
    add("decoder.norm", d)
    return shapes
