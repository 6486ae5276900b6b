"""Promises about runtime/: small modules, no slow imports while transcribing, no files left behind."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.homes import RUNTIME

MODULES = sorted(RUNTIME.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The top-level names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


def test_there_are_modules() -> None:
    names = {path.stem for path in MODULES}
    assert {"transcribe", "audiofile", "state", "whisper", "decoding", "batched", "vad", "formats"} <= names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_module_is_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 300


def test_transformers_is_left_to_standard_loading() -> None:
    assert [path.stem for path in MODULES if "transformers" in imports(path)] == ["checkpoint"]


def test_the_package_of_the_voice_detector_is_only_looked_for() -> None:
    """Its network is read from its folder; importing it would import torch."""
    named = [
        path.stem
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "silero_vad"
    ]
    assert named == ["vad"]
    assert 'find_spec("silero_vad")' in (RUNTIME / "preheat/audio/vad.py").read_text()


# Slow to import, and not needed to transcribe; transformers imports three of them.
SLOW = {
    "av",
    "transformers",
    "huggingface_hub",
    "safetensors",
    "tokenizers",
    "torch._meta_registrations",
    "silero_vad",
    "scipy",
    "numba",
    "librosa",
    "pandas",
    "wcwidth",
    "boto3",
    "botocore",
    "httpx2",
    "rich",
}
HOT = """
import sys
from preheat import cli
code = cli.transcribe({arguments!r})
print(code, *sorted({slow!r} & set(sys.modules)))
"""


def imported(baked: Path, samples: Path, *arguments: str, env: dict[str, str] | None = None) -> list[str]:
    """Exit code and slow modules of a process that transcribed short.flac."""
    words = ["--quiet", "--home", str(baked), *arguments, str(samples / "short.flac")]
    code = HOT.format(arguments=words, slow=SLOW)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, env=env
    )
    assert "zero" in done.stdout
    return done.stdout.splitlines()[-1].split()


def test_nothing_slow_is_imported_on_the_hot_path(baked: Path, samples: Path) -> None:
    """And it also works if these are not installed."""
    assert imported(baked, samples) == ["0"]
    everything = ["--sequential", "--word_timestamps", "True", "--load", "state", "--language", "en"]
    assert imported(baked, samples, *everything) == ["0"]


def test_nothing_is_left_behind_or_reported(baked: Path, samples: Path, tmp_path: Path) -> None:
    """onnxruntime would leave files with its telemetry, except when it detects CI."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    assert imported(baked, samples, env=env) == ["0"]
    assert list(tmp_path.iterdir()) == []


def test_standard_loading_imports_it(baked: Path, samples: Path) -> None:
    """Shows that the test above can fail."""
    found = imported(baked, samples, "--load", "standard")
    assert found[0] == "0"
    assert {"transformers", "huggingface_hub", "safetensors", "torch._meta_registrations"} <= set(found)
