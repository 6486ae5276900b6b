"""precision.py: the fastest dtype on a machine."""

from pathlib import Path

import pytest
import torch

from preheat.model import precision


@pytest.mark.parametrize(
    ("machine", "wanted"),  # a machine: has it a GPU, what its processor says, what oneDNN says
    [
        ((True, "avx512_bf16", True), "float16"),
        ((False, "avx512_bf16", True), "bfloat16"),
        ((False, "amx_bf16", True), "bfloat16"),
        ((False, "amx_bf16", False), "float32"),
        ((False, "avx512f", True), "float32"),
    ],
)
def test_the_dtype_of_choice(
    machine: tuple[bool, str, bool], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, flags, supported = machine
    (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {flags} sse\n")
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert precision.best_dtype("cuda" if gpu else "cpu") == wanted
