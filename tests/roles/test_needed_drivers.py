"""The driver that ships can be built for the kernel that the distribution has now."""

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[2] / "ansible/roles/nvidia"
NAMES = yaml.safe_load((ROLE / "vars/Debian-12.yml").read_text())
MINIMUM = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__nvidia_minimum_drivers"]
DEFAULT = NAMES["__nvidia_default_version"]
NEEDED = ["580.126.09", "590.48.01"]


def load_filter() -> Any:
    """The role's filter, which Ansible loads by its path, too."""
    spec = importlib.util.spec_from_file_location("needed_drivers", ROLE / "filter_plugins/needed_drivers.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.needed_drivers


needed_drivers = load_filter()


def newest(package: str) -> str:
    """The newest version of a package that apt offers."""
    for command in ("true", "apt-get update"):  # a fresh machine has no lists
        subprocess.run(command.split(), check=False, capture_output=True)
        offered = subprocess.check_output(["apt-cache", "policy", package], text=True)
        if found := re.search(r"Candidate: (\d\S+)", offered):
            return found[1]
    raise LookupError(f"apt offers no {package}")


def test_the_driver_that_ships_is_new_enough_for_the_newest_kernel() -> None:
    assert needed_drivers(DEFAULT, newest("linux-headers-cloud-amd64"), MINIMUM) == []


@pytest.mark.parametrize(
    ("driver", "kernel", "missed"),
    [
        ("580.105.08", "6.1.192-2", NEEDED),
        ("580.119.02", "6.1.178-1", NEEDED),
        ("580.105.08", "6.1.177-1", []),
        ("580.126.09", "6.1.178-1", []),
        ("580.142", "6.1.192-2", []),
        ("590.44.01", "6.1.192-2", NEEDED),
        ("590.48.01", "6.1.192-2", []),
        ("595.58.03", "6.1.192-2", []),
        ("585.10.01", "6.1.192-2", NEEDED),
        ("570.211.01", "6.12.100+deb13", NEEDED),
        ("570.211.01", "6.12.96+deb13", []),
        ("580.105.08", "0", []),  # a kernel not from a package
    ],
)
def test_minimum_by_series_and_branch(driver: str, kernel: str, missed: list[str]) -> None:
    assert needed_drivers(driver, kernel, MINIMUM) == missed
