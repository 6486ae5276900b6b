"""Whisper's network, from log-mel to logits, in plain torch over a flat dict of packed tensors.

The architecture is that of Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision" (2022): pre-norm transformer blocks, two convolutions in front of the encoder, the
token embedding reused as the output projection. No weights are allocated or initialised here: the
tensors come from a state file (state.py) or from a checkpoint (checkpoint.py), in the same layout.

Shapes: B windows, T text tokens, d = d_model. A window is 30 s: 3000 log-mel frames in, 1500 positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor

from preheat.model.layout import Dimensions

Pair = tuple[Tensor, Tensor]  # weight and bias, or keys and values
Layer = dict[str, Pair]
Scores = dict[tuple[int, int], Tensor]  # query times key, by (layer, head)


@dataclass
class Cache:
    """What the decoder remembers of B windows: filled by `Whisper.prefill_cross` and `Whisper.decode`.

    `length` is the number of tokens so far, for `decode`; a captured `step` counts on the device instead.
    """

    cross_kv: Tensor  # [layers, 2, B, heads, 1500, d / heads]: keys and values of the audio
    self_kv: Tensor  # [layers, 2, B, heads, capacity, d / heads]: those of the tokens, valid up to `length`
    length: int = 0


class Whisper:
    """The network. It is immutable: everything that changes while decoding is in a Cache."""

    def __init__(self, tensors: dict[str, Tensor], dims: Dimensions) -> None:
        """`tensors`: as `layout(dims)` names them, all on one device."""
        self.dims = dims
        self.window, self.filters = tensors["audio.window"], tensors["audio.filters"]
        self.encoder_positions = tensors["encoder.positions"]
        self.decoder_positions = tensors["decoder.positions"]
        self.tokens = tensors["decoder.tokens"]
        self.dtype, self.device = self.tokens.dtype, self.tokens.device
        self.output = self.tokens
        if self.device.type == "cuda":
            choose_attention()
            # Matrix products use tensor cores only if sizes are multiples of 8; large-v3 has 51,866 tokens.
            if missing := -dims.vocab_size % 8:
                self.output = F.pad(self.tokens, (0, 0, 0, missing))
        self.stem: Layer = {}
        self.encoder: list[Layer] = [{} for _ in range(dims.encoder_layers)]
        self.decoder: list[Layer] = [{} for _ in range(dims.decoder_layers)]
        for name, weight in tensors.items():
            place, _, kind = name.rpartition(".")
            if kind == "weight":
                half, _, rest = place.partition(".")
                layer, _, part = rest.partition(".")
                layers = self.encoder if half == "encoder" else self.decoder
                target, key = (layers[int(layer)], part) if layer.isdigit() else (self.stem, place)
                target[key] = (weight, tensors[f"{place}.bias"])

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> Tensor:
        """[B, num_mel_bins, 2 * max_source_positions] log-mel → [B, max_source_positions, d] features."""
        heads = self.dims.encoder_attention_heads
        x = F.gelu(F.conv1d(mel.to(self.dtype), *self.stem["encoder.conv1"], padding=1))
        x = F.gelu(F.conv1d(x, *self.stem["encoder.conv2"], stride=2, padding=1))
        # In this order the sum is contiguous as [B, T, d]. With the operands swapped, it and every later sum
        # keep the convolution's memory layout, and each layer norm has to copy.
        x = self.encoder_positions + x.transpose(1, 2)
        for layer in self.encoder:
            projected = linear(norm(x, layer["attention.norm"]), layer["attention.qkv"])
            query, key, value = split(projected, 3, heads)
            x = x + linear(attend(query, key, value), layer["attention.out"])
            x = x + mlp(x, layer)
        return norm(x, self.stem["encoder.norm"])

    def cache(self, windows: int, capacity: int) -> Cache:
        """An empty cache for `windows` windows of at most `capacity` tokens each."""
        dims = self.dims
        heads, layers = dims.decoder_attention_heads, dims.decoder_layers
        cross = (layers, 2, windows, heads, dims.max_source_positions, dims.d_model // heads)
        seen = (layers, 2, windows, heads, capacity, dims.d_model // heads)
        # Zeros, not new_empty: a captured step multiplies unfilled positions by 0, which keeps a NaN.
        return Cache(self.tokens.new_empty(cross), self.tokens.new_zeros(seen))

    @torch.inference_mode()
    def prefill_cross(self, features: Tensor, cache: Cache) -> None:
        """Fill the cross-attention's keys and values from `features` [N, positions, d]; reset `length` to 0.

        They become the first N windows of the cache; the others keep their audio.
        """
        for i, layer in enumerate(self.decoder):
            projected = linear(features, layer["cross.kv"])
            for part, content in enumerate(split(projected, 2, self.dims.decoder_attention_heads)):
                cache.cross_kv[i, part, : len(content)] = content
        cache.length = 0

    @torch.inference_mode()
    def decode(
        self,
        tokens: Tensor,
        cache: Cache,
        qk: Scores | None = None,
        where: slice | list[int] = slice(None),
    ) -> Tensor:
        """[B, T] tokens that follow those already in `cache` → [B, T, vocab_size] logits, float32.

        `where` selects positions of the T: logits take by far the most memory. For each (layer, head) key in
        `qk`, the value is set to the cross-attention scores before softmax, [B, T, 1500].
        """
        at = torch.arange(cache.length, cache.length + tokens.shape[1], device=self.device)
        cache.length += tokens.shape[1]
        # Causal mask; a single token attends to everything and needs none.
        mask = None if len(at) == 1 else torch.arange(cache.length, device=self.device) <= at[:, None]
        filled = Cache(cache.cross_kv, cache.self_kv[..., : cache.length, :])
        return self._logits(self._decode(tokens, at, filled, mask, qk or {})[:, where])

    @torch.inference_mode()
    def step(self, tokens: Tensor, at: Tensor, cache: Cache) -> Tensor:
        """The newest token of each row, [B, 1], at position `at`, [1] → [B, vocab_size] logits, float32.

        All shapes and addresses are the same in every step, so that it can be captured: attention covers the
        whole cache, and a mask hides the positions not filled yet.
        """
        capacity = cache.self_kv.shape[-2]
        hidden = torch.arange(capacity, device=self.device) > at
        # Not -inf: a kernel that splits the keys would get parts that are all -inf, and so NaN. The weight
        # is 0 in any case. The mask has the query's dtype, as not all kernels check the mask's own.
        mask = self.tokens.new_zeros(1, capacity).masked_fill(hidden, torch.finfo(self.dtype).min)
        return self._logits(self._decode(tokens, at, cache, mask, {})[:, 0])

    def _decode(self, tokens: Tensor, at: Tensor, cache: Cache, mask: Tensor | None, qk: Scores) -> Tensor:
        heads = self.dims.decoder_attention_heads
        x = F.embedding(tokens, self.tokens) + self.decoder_positions[at]
        for i, layer in enumerate(self.decoder):
            projected = linear(norm(x, layer["attention.norm"]), layer["attention.qkv"])
            query, key, value = split(projected, 3, heads)
            cache.self_kv[i, 0].index_copy_(2, at, key)
            cache.self_kv[i, 1].index_copy_(2, at, value)
            keys, values = cache.self_kv[i]
            x = x + linear(attend(query, keys, values, mask), layer["attention.out"])
            (query,) = split(linear(norm(x, layer["cross.norm"]), layer["cross.query"]), 1, heads)
            keys, values = cache.cross_kv[i]
            x = x + linear(attend(query, keys, values), layer["cross.out"])
            for head in [head for where, head in qk if where == i]:
                scores = query[:, head] @ cache.cross_kv[i, 0, :, head].mT
                qk[i, head] = scores.float() * query.shape[-1] ** -0.5
            x = x + mlp(x, layer)
        return x

    def _logits(self, x: Tensor) -> Tensor:
        logits = F.linear(norm(x, self.stem["decoder.norm"]), self.output)
        return logits[..., : self.dims.vocab_size].float()


def choose_attention() -> None:
    """Disable cuDNN attention, torch's first choice on an H100 and later.

    It spends tenths of a second on a plan for each new shape. Shapes here change with every batch, and
    without a captured graph with every token.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


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
    if mask is None and query.shape[2] == 1 and query.dtype == torch.bfloat16 and query.device.type == "cpu":
        # torch's kernel takes 7 to 14 times as long as these products for a single query in bfloat16.
        heads = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(dim=-1) @ value
    else:
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    joined: Tensor = heads.transpose(1, 2).flatten(2)
    return joined
