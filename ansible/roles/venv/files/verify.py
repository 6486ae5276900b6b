"""Run by the venv's Python: exit with what is wrong, unless the venv is what its lock says and can be used.

Run it with -B, lest Python compiles what it finds not compiled.
"""

import importlib
import re
import sys
from importlib.metadata import distributions
from importlib.util import cache_from_source
from pathlib import Path

IMPORTS = (
    "numpy",
    "onnxruntime",
    "safetensors",
    "soundfile",
    "soxr",
    "tokenizers",
    "torch",
    "transformers",
    "xxhash",
)


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_python(module: Path) -> bool:
    """Whether this Python can compile a module; some packages carry modules for newer ones."""
    try:
        compile(module.read_bytes(), module, "exec")
    except SyntaxError:
        return False
    return True


lock = (Path(sys.prefix) / "requirements.txt").read_text()
wanted = {normal(name): version for name, version in re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE)}
installed = {normal(found.metadata["Name"]): found.version for found in distributions()}
wrong = [
    f"{name} is {installed.get(name, 'missing')}, the lock says {wanted.get(name, 'nothing of it')}"
    for name in sorted(wanted | installed)
    if wanted.get(name) != installed.get(name)
]
for name in IMPORTS:
    try:
        importlib.import_module(name)
    except ImportError as error:
        wrong.append(f"{name} cannot be imported: {error}")
wrong += [
    f"{module} is not compiled"
    for module in Path(sys.prefix).rglob("*.py")
    if not Path(cache_from_source(str(module))).exists() and is_python(module)
]
sys.exit("\n".join(wrong) or 0)
