"""The units of the role `service`, by systemd-analyze of this host, without starting them."""

import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "ansible/roles/service/files/etc/systemd/system"
PYTHON = "/opt/transcribe/venv/bin/python"
# In tenths, by systemd-analyze: the worker needs the GPU's devices, and the watchdog is root.
EXPOSURE = {"preheat-worker": 38, "preheat-watchdog": 25}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The units, with a Python that is on this host."""
    folder = tmp_path_factory.mktemp("units")
    for unit in UNITS.iterdir():
        (folder / unit.name).write_text(unit.read_text().replace(PYTHON, sys.executable))
    return sorted(folder.iterdir())


def test_systemd_understands_every_line(units: list[Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", EXPOSURE)
def test_it_may_do_little(name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[name]}", "--no-pager",
         UNITS / f"{name}.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
