"""Which modules of runtime/ may import which (docs/design.md): the ground, parts on it, and those above."""

import ast
import sys

import pytest

from tests.imports import Imports
from tests.runtime.homes import RUNTIME

IMPORTS = Imports(RUNTIME, RUNTIME)
WINGS = {"audio", "fleet", "model", "places", "weights"}
# The other parts that each part may import. Modules above all parts may import everything.
GROUND = {
    "cues",
    "formats",
    "memory",
    "options",
    "outcome",
    "stdio",
    "storage",
    "subtitles",
    "threads",
    "timing",
    "transcript",
    "typography",
}
SHARED = {"delivery", "transcriber"}  # by the command and the fleet's worker, which do not know each other
ABOVE = {
    "cli",
    "groups",
    "peers",
    "progress",
    "signals",
    "statecli",
    "summary",
    "terminal",
    "transcribe",
    "values",
}
MAY = {
    "ground": {"ground"},
    "audio": {"ground", "audio"},
    "model": {"ground", "audio", "model"},
    "weights": {"ground", "model", "weights"},
    "places": {"ground", "places"},
    "shared": {"ground", "audio", "model", "weights", "places", "shared"},
    "fleet": {"ground", "audio", "model", "weights", "places", "shared", "fleet"},
    "above": {"ground", "audio", "model", "weights", "places", "shared", "above"},
}
NUMBERS = "preheat.audio.constants"  # imports nothing, and every part may import it
# What else each may import, apart from the standard library.
PACKAGES = {
    "ground": {"wcwidth"},
    "audio": {"av", "numpy", "onnxruntime", "soundfile", "soxr"},
    "model": {"numpy", "tokenizers", "torch"},
    "weights": {"torch", "transformers", "xxhash"},
    "places": {"boto3", "botocore", "httpx2", "s3transfer"},
    "shared": {"numpy", "torch"},
    "fleet": {"torch"},
    "above": {"numpy", "rich", "torch"},
}


def part(module: str) -> str:
    """The part of runtime/ that a module is in: audio, model and so on, the ground, or above."""
    names = module.split(".")
    if names[0] != "preheat":  # an entry point
        return "fleet" if names[0] in ("watchdog", "worker") else "above"
    if names[1] in WINGS:
        return names[1]
    if names[1] in SHARED:
        return "shared"
    if names[1] in ABOVE:
        return "above"
    assert names[1] in GROUND, f"say in this test where {module} is"
    return "ground"


@pytest.mark.parametrize("module", IMPORTS.modules)
def test_nobody_imports_what_it_should_not_know(module: str) -> None:
    here = part(module)
    for name in IMPORTS.all[module]:
        if name in IMPORTS.modules:
            assert name == NUMBERS or part(name) in MAY[here], f"{module} must not import {name}"
        elif (package := name.partition(".")[0]) not in sys.stdlib_module_names:
            assert package in PACKAGES[here], f"{module} must not import {name}"


@pytest.mark.parametrize("module", IMPORTS.modules)
def test_no_circles(module: str) -> None:
    assert module not in IMPORTS.reached(module)


def test_only_the_command_line_knows_of_arguments() -> None:
    knowing = {module for module in IMPORTS.modules if "argparse" in IMPORTS.all[module]}
    assert knowing == {
        "preheat.cli",
        "preheat.fleet.command",
        "preheat.groups",
        "preheat.statecli",
        "preheat.values",
    }


def test_the_model_knows_nothing_of_files() -> None:
    """Except for /proc/cpuinfo."""
    knowing = {
        module for module in IMPORTS.modules if part(module) == "model" and "pathlib" in IMPORTS.all[module]
    }
    assert knowing == {"preheat.model.precision"}
    for module in IMPORTS.modules:
        if part(module) == "model":
            assert not IMPORTS.all[module] & {"preheat.storage", "preheat.formats", "preheat.stdio"}


def defined(module: str) -> set[str]:
    """All names that are assigned to, wherever in a module."""
    nodes = ast.walk(ast.parse(IMPORTS.modules[module].read_text()))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_nobody_defines_the_numbers_of_the_front_end_again() -> None:
    assert "SAMPLE_RATE" in defined(NUMBERS) and not IMPORTS.all[NUMBERS]
    for module, path in IMPORTS.modules.items():
        if module != NUMBERS:
            assert not defined(module) & defined(NUMBERS)
            values = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
            assert 16_000 not in values


def test_packages_are_empty() -> None:
    """Modules are imported by their full names; only preheat/__init__.py has names, for programs."""
    written = {path.parent.name: path.read_text() for path in RUNTIME.rglob("__init__.py")}
    assert written.pop("preheat")
    assert written == dict.fromkeys(WINGS, "")
