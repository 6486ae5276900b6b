"""Each scenario of molecule/, as a test: a role in a container of the base system."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import yaml

PROJECT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml"))
CONFIG = PROJECT / ".config/molecule/config.yml"
SLOW = {"nvidia-debian", "nvidia-open"}  # build NVIDIA's kernel module: minutes; `make test-slow` runs them
NVIDIA = yaml.safe_load((PROJECT / "ansible/roles/nvidia/vars/Debian-12.yml").read_text())[
    "__nvidia_default_repository"
]
TAIL = 60  # lines: enough to see which step failed, and why


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCENARIOS]
)
def test_scenario(scenario: str) -> None:
    if scenario == "nvidia-open":
        need_repository(NVIDIA)
    log = PROJECT / f"build/logs/molecule-{scenario}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    tools = Path(sys.executable).parent
    with log.open("w") as file:
        done = subprocess.run(
            # Named, because molecule finds it by itself only in a git checkout.
            [tools / "molecule", "--base-config", CONFIG, "test", "--scenario-name", scenario],
            cwd=PROJECT, stdout=file, stderr=subprocess.STDOUT, check=False,
            # molecule finds Ansible on PATH only. Its verifier is a pytest of its own.
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "NO_COLOR": "1"},
        )  # fmt: skip
    end = "\n".join(log.read_text().splitlines()[-TAIL:])
    assert done.returncode == 0, f"{end}\n\nThe whole log: {log}"


def need_repository(address: str) -> None:
    """Skip where an apt repository does not answer, which is said; an error in CI, where it has to."""
    try:
        httpx2.get(f"{address}Release", timeout=60).raise_for_status()
    except httpx2.HTTPError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT CHECKED: whether the driver that ships can be built, for {address} says: {error}")
