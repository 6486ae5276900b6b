"""Versions, hardware and settings of this machine, and the best speed of its device."""

import importlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from typing import Any

import torch

from bench.gpu.place import Place, Row

PACKAGES = ["torch", "transformers", "tokenizers", "numpy", "onnxruntime", "xxhash", "soundfile", "soxr"]
ACCESS = [  # together they import all other modules
    "preheat.cli",
    "preheat.audio.recording",
    "preheat.model.batched",
    "preheat.model.sequential",
    "preheat.weights.transfer",
]
SIDE = 8192  # side of the matrices for the device's peak throughput
BLOCK = 1 << 30  # bytes, for its memory bandwidth


def run(place: Place) -> Iterator[Row]:
    """Versions first; then the device's best speed, to compare other figures with."""
    for name, value in facts(place).items():
        yield {"table": "versions", "what": name, "value": value}
    for name in ACCESS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield {"problem": f"{name} cannot be imported: {error}"}
    yield from best(place)


def facts(place: Place) -> dict[str, str]:
    """Everything that may explain a figure."""
    cuda: Any = torch.backends.cuda  # untyped, like cuDNN's below
    cudnn: Any = torch.backends.cudnn
    private: Any = torch._C
    found = {name: version(name) for name in PACKAGES}
    found |= {
        "CUDA of torch": str(torch.version.cuda),
        "cuDNN": str(cudnn.version()),
        "order of SDPA's ways": str(private._get_sdp_priority_order()),
        "cuDNN's SDPA is on": str(cuda.cudnn_sdp_enabled()),
        "_flash_attention_forward": str(torch.ops.aten._flash_attention_forward.default._schema),
        "threads of torch": str(torch.get_num_threads()),
        "root": str(os.geteuid() == 0),
        "strace": shutil.which("strace") or "none",
        "kernel": os.uname().release,
    }
    if place.gpu:
        device = torch.cuda.get_device_properties(0)
        found["GPU"] = f"{device.name}, {device.multi_processor_count} multiprocessors, "
        found["GPU"] += f"{device.total_memory / 2**30:.1f} GiB, sm_{device.major}{device.minor}"
        found["allocator"] = os.environ.get("PYTORCH_ALLOC_CONF", "as it comes")
    return found


def version(name: str) -> str:
    """The version of a package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not there"


def best(place: Place) -> Iterator[Row]:
    """A large matrix product, a copy within the device's memory, and one from the host."""
    side, block = place.pick((SIDE, BLOCK), (256, 1 << 20))
    a, b = (torch.randn(side, side, device=place.device, dtype=place.dtype) for _ in range(2))
    product = place.first_and_steady(lambda: a @ b, 10)
    one = torch.zeros(block, dtype=torch.uint8, device=place.device)
    other = torch.empty_like(one)
    within = place.first_and_steady(lambda: other.copy_(one), 10)
    at_home = torch.zeros(block // 4, dtype=torch.uint8, pin_memory=place.gpu)
    pageable = torch.zeros(block // 4, dtype=torch.uint8)
    to_it = place.first_and_steady(lambda: one[: block // 4].copy_(at_home, non_blocking=True), 4)
    slowly = place.first_and_steady(lambda: one[: block // 4].copy_(pageable), 4)
    flops, rate = 2 * side**3 / product[1] / 1e12, 2 * block / within[1] / 1e9
    rows = [
        ("product", flops, "TFLOP/s"),
        ("memory, read and written", rate, "GB/s"),
        ("copy from pinned memory", block / 4 / to_it[1] / 1e9, "GB/s"),
        ("copy from any memory", block / 4 / slowly[1] / 1e9, "GB/s"),
    ]
    for what, value, unit in rows:
        yield {"table": "at best", "what": what, "unit": unit, "value": value}
    yield {"finding": f"{flops:,.1f} TFLOP/s, {rate:,.0f} GB/s, torch {torch.__version__}"}
