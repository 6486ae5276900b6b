"""Which modules of factory/ may import which (docs/design.md): base, local and ec2, and commands."""

import subprocess
import sys

import pytest

from factory.console import ROOT
from tests.imports import Imports

FACTORY = ROOT / "factory"
IMPORTS = Imports(FACTORY, ROOT)
BASE = {"console", "workspace", "ssh", "inputs", "hub", "pin", "model", "packer", "progress", "spot"}
COMMANDS = {"__main__", "cli", "clean", "docs"}
MAY = {
    "base": {"base"},
    "local": {"base", "local"},
    "ec2": {"base", "ec2"},
    "commands": {"base", "local", "ec2", "commands"},
}
# What else each may import, apart from the standard library.
PACKAGES = {
    "base": {"httpx2", "huggingface_hub", "yaml"},
    "local": set[str](),
    "ec2": {"boto3", "botocore", "hcl2", "lark", "yaml"},
    "commands": set[str](),
}


def part(module: str) -> str:
    """The part of factory/ that a module is in: local, ec2, the base, or the commands."""
    name = module.split(".")[1]
    if name in ("local", "ec2"):
        return name
    if name in COMMANDS:
        return "commands"
    assert name in BASE, f"say in this test and in docs/design.md where {module} is"
    return "base"


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


def test_the_packages_inits_are_empty() -> None:
    assert all((FACTORY / package / "__init__.py").read_text() == "" for package in ("local", "ec2"))
