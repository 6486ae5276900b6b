"""Which modules of factory/ may import which (docs/design.md): ground, two wings, and the commands above."""

import subprocess
import sys

import pytest

from factory.console import ROOT
from tests.imports import Imports

FACTORY = ROOT / "factory"
IMPORTS = Imports(FACTORY, ROOT)
GROUND = {"console", "workspace", "ssh", "inputs", "hub", "pin", "model", "packer", "progress", "spot"}
ABOVE = {"__main__", "cli", "clean", "docs"}
MAY = {
    "ground": {"ground"},
    "local": {"ground", "local"},
    "ec2": {"ground", "ec2"},
    "above": {"ground", "local", "ec2", "above"},
}
# What else each may import, apart from the standard library.
PACKAGES = {
    "ground": {"httpx2", "huggingface_hub", "yaml"},
    "local": set[str](),
    "ec2": {"boto3", "botocore", "hcl2", "lark", "yaml"},
    "above": set[str](),
}


def part(module: str) -> str:
    """The part of factory/ that a module is in: a wing, the ground, or above both wings."""
    name = module.split(".")[1]
    if name in ("local", "ec2"):
        return name
    if name in ABOVE:
        return "above"
    assert name in GROUND, f"say in this test and in docs/design.md where {module} is"
    return "ground"


@pytest.mark.parametrize("module", IMPORTS.modules)
def test_a_module_imports_only_what_its_part_may(module: str) -> None:
    here = part(module)
    for name in IMPORTS.all[module]:
        if name in IMPORTS.modules:
            assert part(name) in MAY[here], f"{module} must not import {name}"
        elif (package := name.partition(".")[0]) not in sys.stdlib_module_names | {"factory"}:
            assert package in PACKAGES[here], f"{module} must not import {name}"


@pytest.mark.parametrize("module", IMPORTS.modules)
def test_no_circles(module: str) -> None:
    assert module not in IMPORTS.reached(module)


def test_clean_needs_no_setup() -> None:
    """It needs only the standard library; -S hides every installed package."""
    command = [sys.executable, "-S", "-c", "import factory.clean"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_the_wings_packages_are_empty() -> None:
    assert all((FACTORY / wing / "__init__.py").read_text() == "" for wing in ("local", "ec2"))
