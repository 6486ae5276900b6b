"""What design.md promises of runtime/: small flat modules that lean on nothing else of the tree."""

import ast
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
MODULES = sorted(RUNTIME.glob("*.py"))
# What the image's venv has for it, apart from the standard library.
PACKAGES = {
    "numpy",
    "onnxruntime",
    "silero_vad",
    "soundfile",
    "soxr",
    "tokenizers",
    "torch",
    "transformers",
    "xxhash",
}


def imports(path: Path) -> set[str]:
    """The top-level names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "flat modules have no package to be relative to"
            found.add(str(node.module).partition(".")[0])
    return found


def test_there_are_modules() -> None:
    assert {"transcribe", "audio", "state", "whisper", "decoding", "formats"} <= {
        path.stem for path in MODULES
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_is_small_and_stands_alone(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 300
    siblings = {module.stem for module in MODULES}
    assert imports(path) <= PACKAGES | siblings | sys.stdlib_module_names
    # A sibling named like a module of the standard library would take its place everywhere.
    assert path.stem not in sys.stdlib_module_names


def test_transformers_is_left_to_standard_loading() -> None:
    assert [path.stem for path in MODULES if "transformers" in imports(path)] == ["checkpoint"]
