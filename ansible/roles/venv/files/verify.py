"""Run by the venv's Python: exit with a list of errors unless the venv matches its lock and works.

    python -B - ACCELERATOR LICENCES

ACCELERATOR: with cuda, torch must also compute on the GPU. LICENCES: the file of licences, which must name
all packages.

-B, so that Python does not compile the modules whose compilation is checked.
"""

import importlib
import re
import sys
from getpass import getuser
from importlib.metadata import distributions
from importlib.util import cache_from_source
from pathlib import Path

IMPORTS = (
    "av",
    "boto3",
    "httpx2",
    "numpy",
    "onnxruntime",
    "rich",
    "safetensors",
    "soundfile",
    "soxr",
    "tokenizers",
    "torch",
    "transformers",
    "wcwidth",
    "xxhash",
)


def normal(name: str) -> str:
    """A package's name, normalised by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_python(module: Path) -> bool:
    """Whether this Python can compile a module; some packages have modules for newer versions."""
    try:
        compile(module.read_bytes(), module, "exec")
    except SyntaxError:
        return False
    return True


def gpu_problem() -> str:
    """Why torch cannot multiply matrices on the GPU, and what to do about it; empty if it can."""
    torch = importlib.import_module("torch")
    try:
        ones = torch.ones(64, 64, device="cuda")
        product = (ones @ ones).sum().item()
        if torch.cuda.is_available() and product == ones.shape[0] ** 3:
            return ""
        reason = f"64 times 64 ones make {product}"
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
    driver = Path("/sys/module/nvidia/version")
    return (
        f"torch cannot compute on the GPU as {getuser()}: {reason}. The loaded driver is "
        f"{driver.read_text().strip() if driver.exists() else 'none'}, torch is made for CUDA "
        f"{torch.version.cuda}. Use a newer driver (nvidia_driver_version), a machine with a GPU, or set "
        "image_accelerator to cpu"
    )


lock = (Path(sys.prefix) / "requirements.txt").read_text()
wanted = {normal(name): version for name, version in re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE)}
installed = {normal(found.metadata["Name"]): found.version for found in distributions()}
wrong = [
    f"{name} is {installed.get(name, 'missing')}, the lock says {wanted.get(name, 'not installed')}"
    for name in sorted(wanted | installed)
    if wanted.get(name) != installed.get(name)
]
licences = Path(sys.argv[2])
named = licences.read_text().splitlines() if licences.exists() else []
wrong += [
    f"{licences} does not have {name} {version}"
    for name, version in wanted.items()
    if f"{name} {version}" not in named
]
for name in IMPORTS:
    try:
        importlib.import_module(name)
    except ImportError as error:
        wrong.append(f"{name} cannot be imported: {error}")
wrong += [
    f"{module} is not compiled"
    for module in Path(sys.prefix, "lib").rglob("*.py")  # programs in bin/ are not imported
    if not Path(cache_from_source(str(module))).exists() and is_python(module)
]
if sys.argv[1] == "cuda" and "torch" in sys.modules and (problem := gpu_problem()):
    wrong.append(problem)
sys.exit("\n".join(wrong) or 0)
