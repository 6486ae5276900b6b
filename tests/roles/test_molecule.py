"""Each scenario of molecule/, as a test: a role in a container of the base system.

They run from a copy of the tree in root's home, a usual place for root's clones that no other user may enter.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml

from factory.console import CHECKOUT

PROJECT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml"))
CONFIG = ".config/molecule/config.yml"
SLOW = {"nvidia-debian", "nvidia-open"}  # build NVIDIA's kernel module: minutes; `make test-slow` runs them
NVIDIA = yaml.safe_load((PROJECT / "ansible/roles/nvidia/vars/Debian-12.yml").read_text())[
    "__nvidia_default_repository"
]
TAIL = 60  # lines: enough to see which step failed, and why


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A copy of the tree in root's home, with this tree's venv and its build/."""
    with tempfile.TemporaryDirectory(prefix="preheat-", dir=Path("~root").expanduser()) as folder:
        copy = Path(folder) / CHECKOUT  # molecule names its own folders by it
        left_out = shutil.ignore_patterns(
            ".git", ".venv", ".*_cache", ".ansible", ".hypothesis", "__pycache__"
        )
        shutil.copytree(PROJECT, copy, ignore=lambda path, names: {*left_out(path, names), "build"})
        (PROJECT / "build").mkdir(exist_ok=True)
        for name in (".venv", "build"):
            (copy / name).symlink_to(PROJECT / name)
        yield copy


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCENARIOS]
)
def test_scenario(checkout: Path, scenario: str) -> None:
    if scenario == "nvidia-open":
        need_repository(NVIDIA)
    log = PROJECT / f"build/logs/molecule-{scenario}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    tools = Path(sys.executable).parent
    with log.open("w") as file:
        done = subprocess.run(
            # Named, because molecule finds it by itself only in a git checkout.
            [tools / "molecule", "--base-config", checkout / CONFIG, "test", "--scenario-name", scenario],
            cwd=checkout, stdout=file, stderr=subprocess.STDOUT, check=False,
            # molecule finds Ansible on PATH only. Its verifier is a pytest of its own.
            env={
                **os.environ,
                "PATH": f"{tools}:{os.environ['PATH']}",
                "NO_COLOR": "1",
                "PREHEAT_CHECKOUT": CHECKOUT,
            },
        )  # fmt: skip
    end = "\n".join(log.read_text().splitlines()[-TAIL:])
    assert done.returncode == 0, f"{end}\n\nThe whole log: {log}"


def need_repository(address: str) -> None:
    """Skip the test if an apt repository does not answer; in CI, fail."""
    try:
        httpx2.get(f"{address}Release", timeout=60).raise_for_status()
    except httpx2.HTTPError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT CHECKED: whether the driver that ships can be built, for {address} says: {error}")
