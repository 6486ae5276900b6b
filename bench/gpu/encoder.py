"""The encoder, the steps before it, and the kernels that take the most time."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch users know it by no other name
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bench.gpu import ours
from bench.gpu.place import Place, Row
from preheat.audio.constants import CHUNK_SECONDS, SAMPLE_RATE
from preheat.model.features import log_mel

Stem = dict[str, tuple[Tensor, Tensor]]  # weight and bias

WINDOWS = (16, 160)
SHOWN = 10  # kernels
WINDOW = CHUNK_SECONDS * SAMPLE_RATE  # samples


@torch.inference_mode()
def run(place: Place) -> Iterator[Row]:
    """The two large models have the same encoder, so one is enough."""
    network = ours.decoder(place, ours.shapes(place)[0]).network
    dims = network.dims
    for windows in place.pick(WINDOWS, (1, 2)):
        mel = torch.randn(windows, dims.num_mel_bins, 2 * dims.max_source_positions, device=place.device)
        yield from layouts(place, network, mel)
    mel = mel[: place.pick(WINDOWS[0], 1)]
    for on in (True, False):
        with place.cudnn(on):
            first, steady = place.first_and_steady(lambda: network.encode(mel), place.pick(3, 1))
        row = {"table": "attention by cuDNN", "cuDNN": "on" if on else "off", "windows": len(mel)}
        yield row | {"first, ms": 1e3 * first, "steady, ms": 1e3 * steady}
    yield from before(place, network)
    yield from kernels(place, network, mel)


def layouts(place: Place, network: Any, mel: Tensor) -> Iterator[Row]:
    """The encoder as it is, and with its residual stream transposed in memory, as the convolutions leave it.

    Transposed position embeddings are enough for that: the layout of the first sum carries over to the rest.
    """
    positions = network.encoder_positions
    ways = {"as it is": positions, "transposed": positions.t().contiguous().t()}
    found, times = [], []
    for name, tensor in ways.items():
        network.encoder_positions = tensor
        # The first run of this shape is not counted. At 160 windows a few runs are long enough.
        _, steady = place.first_and_steady(lambda: network.encode(mel), place.pick(3, 1))
        found.append(network.encode(mel[:1]))
        times.append(steady)
        row = {"table": "layout of the sum of all layers", "layout": name, "windows": len(mel)}
        row |= {"ms": 1e3 * steady, "ms a window": 1e3 * steady / len(mel)}
        yield row | {"TFLOP/s": len(mel) * flops(network.dims) / steady / 1e12}
    network.encoder_positions = positions
    rate = len(mel) * flops(network.dims) / times[0] / 1e12
    yield {
        "finding": f"{len(mel)} windows: {1e3 * times[0] / len(mel):.2f} ms each, {rate:,.0f} TFLOP/s; "
        f"transposed {times[1] / times[0]:.2f} times as long"
    }
    if (found[0] - found[1]).abs().max() > 0.1:  # noqa: PLR2004  of about 1; 16-bit types differ less
        yield {"problem": "the layouts compute different things"}


def flops(dims: Any) -> int:
    """Floating-point operations for a window, without the convolutions."""
    length, width, ffn = dims.max_source_positions, dims.d_model, dims.encoder_ffn_dim
    return int(dims.encoder_layers * (length * width * (8 * width + 4 * ffn) + 4 * length**2 * width))


def before(place: Place, network: Any) -> Iterator[Row]:
    """Log-mel, and the convolutions by conv1d and as matrix products."""
    for windows in place.pick(WINDOWS, (1,)):
        sound = torch.randn(windows, WINDOW)
        there = sound.to(place.device)
        works = {
            "upload of samples": lambda: sound.to(place.device),  # noqa: B023  called within the iteration
            "log-mel": lambda: log_mel(there, network.window, network.filters),  # noqa: B023  as above
        }
        mel = log_mel(there, network.window, network.filters).to(network.dtype)
        works |= {
            "convolutions": lambda: convolved(mel, network.stem),  # noqa: B023  as above
            "the same as products": lambda: multiplied(mel, network.stem),  # noqa: B023  as above
        }
        for name, work in works.items():
            first, steady = place.first_and_steady(work, place.pick(3, 1))
            row = {"table": "before the encoder", "what": name, "windows": windows}
            yield row | {"first, ms": 1e3 * first, "steady, ms": 1e3 * steady}
        if (convolved(mel, network.stem) - multiplied(mel, network.stem)).abs().max() > 0.1:  # noqa: PLR2004
            yield {"problem": "convolutions and products differ"}


def convolved(mel: Tensor, stem: Stem) -> Tensor:
    """The convolutions as the network computes them: [B, T / 2, d]."""
    first, second = stem["encoder.conv1"], stem["encoder.conv2"]
    x = F.gelu(F.conv1d(mel, *first, padding=1))
    return F.gelu(F.conv1d(x, *second, stride=2, padding=1)).transpose(1, 2)


def multiplied(mel: Tensor, stem: Stem) -> Tensor:
    """The convolutions as matrix products: three neighbouring positions side by side, times the filters."""
    x = mel.transpose(1, 2)
    for name, stride in (("encoder.conv1", 1), ("encoder.conv2", 2)):
        weight, bias = stem[name]
        beside = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, stride).flatten(2)  # [B, T, d * 3]
        x = F.gelu(F.linear(beside, weight.flatten(1), bias))
    return x


def kernels(place: Place, network: Any, mel: Tensor) -> Iterator[Row]:
    """The kernels that take longest, from torch's profiler."""
    activity = place.pick(ProfilerActivity.CUDA, ProfilerActivity.CPU)
    key = place.pick("self_device_time_total", "self_cpu_time_total")
    with profile(activities=[activity]) as record:
        network.encode(mel)
        place.settle()
    events: list[Any] = sorted(record.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events) or 1
    for event in events[:SHOWN]:
        spent = getattr(event, key)
        row = {"table": f"where {len(mel)} windows spend their time", "kernel": event.key[:70]}
        yield row | {"calls": event.count, "ms": spent / 1e3, "of all, %": 100 * spent / total}
