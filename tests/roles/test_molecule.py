"""Each scenario of molecule/, as a test: a role in a container of the base system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml"))
CONFIG = PROJECT / ".config/molecule/config.yml"
SLOW = {"nvidia-debian"}  # builds NVIDIA's kernel module: minutes; `make test-slow` runs it
TAIL = 60  # lines: enough to see which step failed, and why


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCENARIOS]
)
def test_scenario(scenario: str) -> None:
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
