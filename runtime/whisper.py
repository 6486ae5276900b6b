"""Whisper's network, from log-mel to logits, in plain torch over a flat dict of packed tensors.

The architecture is that of Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision" (2022): pre-norm transformer blocks, two convolutions in front of the encoder, the
token embedding once more as the output projection. Nothing is allocated or initialised here: the
tensors come from a state file (state.py) or from a checkpoint (checkpoint.py), packed alike.

Shapes: B windows, T text tokens, d = d_model. A window is 30 s: 3000 log-mel frames in, 1500 positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from layout import Dimensions
from torch import Tensor

Pair = tuple[Tensor, Tensor]  # weight and bias, or keys and values
Layer = dict[str, Pair]


@dataclass
class Cache:
    """What the decoder remembers of B windows: made by `Whisper.cache`, advanced by `Whisper.decode`."""

    cross: list[Pair]  # per layer, keys and values of the audio: each [B, heads, 1500, d / heads]
    keys: Tensor  # [layers, B, heads, max_target_positions, d / heads], filled up to `length`
    values: Tensor
    length: int = 0


class Whisper:
    """The network. Read-only once made: everything that changes while decoding is in a Cache."""

    def __init__(self, tensors: dict[str, Tensor], dims: Dimensions) -> None:
        """`tensors`: as `layout(dims)` names them, all on one device."""
        self.dims = dims
        self.window, self.filters = tensors["audio.window"], tensors["audio.filters"]
        self.encoder_positions = tensors["encoder.positions"]
        self.decoder_positions = tensors["decoder.positions"]
        self.tokens = tensors["decoder.tokens"]
        self.dtype, self.device = self.tokens.dtype, self.tokens.device

        def pairs(prefix: str) -> Layer:
            weights = [name for name in tensors if name.startswith(prefix) and name.endswith(".weight")]
            names = [name.removesuffix(".weight") for name in weights]
            return {n.removeprefix(prefix): (tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in names}

        self.stem = {name: pairs(f"encoder.{name}")[""] for name in ("conv1", "conv2", "norm")}
        self.decoder_norm = pairs("decoder.norm")[""]
        self.encoder = [pairs(f"encoder.{i}.") for i in range(dims.encoder_layers)]
        self.decoder = [pairs(f"decoder.{i}.") for i in range(dims.decoder_layers)]

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> Tensor:
        """[B, num_mel_bins, 2 * max_source_positions] log-mel → [B, max_source_positions, d] features."""
        heads = self.dims.encoder_attention_heads
        x = F.gelu(F.conv1d(mel.to(self.dtype), *self.stem["conv1"], padding=1))
        x = F.gelu(F.conv1d(x, *self.stem["conv2"], stride=2, padding=1))
        x = x.transpose(1, 2) + self.encoder_positions
        for layer in self.encoder:
            projected = linear(norm(x, layer["attention.norm"]), layer["attention.qkv"])
            query, key, value = split(projected, 3, heads)
            x = x + linear(attend(query, key, value), layer["attention.out"])
            x = x + mlp(x, layer)
        return norm(x, self.stem["norm"])

    @torch.inference_mode()
    def cache(self, features: Tensor) -> Cache:
        """An empty cache for windows with these `features` [B, positions, d]."""
        heads = self.dims.decoder_attention_heads
        cross = [split(linear(features, layer["cross.kv"]), 2, heads) for layer in self.decoder]
        shape = (len(cross), len(features), heads, self.dims.max_target_positions, self.dims.d_model // heads)
        keys, values = (torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in range(2))
        return Cache([(key, value) for key, value in cross], keys, values)

    @torch.inference_mode()
    def decode(self, tokens: Tensor, cache: Cache) -> Tensor:
        """[B, T] tokens that follow those already in `cache` → [B, T, vocab_size] logits, float32."""
        heads = self.dims.decoder_attention_heads
        begin, end = cache.length, cache.length + tokens.shape[1]
        cache.length = end
        # A token sees itself and what came before it; a single one sees everything, which needs no mask.
        mask = None
        if tokens.shape[1] > 1:
            at = torch.arange(end, device=self.device)
            mask = at <= at[begin:, None]
        x = F.embedding(tokens, self.tokens) + self.decoder_positions[begin:end]
        for i, layer in enumerate(self.decoder):
            projected = linear(norm(x, layer["attention.norm"]), layer["attention.qkv"])
            query, key, value = split(projected, 3, heads)
            cache.keys[i, :, :, begin:end], cache.values[i, :, :, begin:end] = key, value
            seen = attend(query, cache.keys[i, :, :, :end], cache.values[i, :, :, :end], mask)
            x = x + linear(seen, layer["attention.out"])
            (query,) = split(linear(norm(x, layer["cross.norm"]), layer["cross.query"]), 1, heads)
            x = x + linear(attend(query, *cache.cross[i]), layer["cross.out"])
            x = x + mlp(x, layer)
        return F.linear(norm(x, self.decoder_norm), self.tokens).float()


def linear(x: Tensor, parameters: Pair) -> Tensor:
    """[…, in] → […, out]."""
    return F.linear(x, *parameters)


def norm(x: Tensor, parameters: Pair) -> Tensor:
    """Layer norm over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], *parameters)


def mlp(x: Tensor, layer: Layer) -> Tensor:
    """The feed-forward half of a block, without the residual."""
    return linear(F.gelu(linear(norm(x, layer["mlp.norm"]), layer["mlp.up"])), layer["mlp.down"])


def split(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[B, T, parts * d] → `parts` tensors [B, heads, T, d / heads]."""
    return x.view(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention over [B, heads, T, d / heads], heads joined again: [B, T, d]."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
