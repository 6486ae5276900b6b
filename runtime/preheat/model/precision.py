"""Which dtype the network computes in."""

from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def best_dtype(device: str) -> str:
    """The dtype in which this machine's GPU ("cuda") or processor ("cpu") runs the network fastest."""
    if device == "cuda":
        return "float16"
    # Check the CPU flags, too: oneDNN also accepts bfloat16 on processors that have to emulate it.
    flags = CPUINFO.read_text().split()
    native = "avx512_bf16" in flags or "amx_bf16" in flags
    return "bfloat16" if native and torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
