"""The units of the role `service`, by systemd-analyze of this host, without starting them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROLE = Path(__file__).parents[2] / "ansible/roles/service"
FOLDER = "etc/systemd/system"
PYTHON = "/opt/transcribe/venv/bin/python"
# In tenths, by systemd-analyze: the worker needs the GPU's devices, and the watchdog is root.
EXPOSURE = {"preheat-worker": 38, "preheat-watchdog": 25}
each_unit = pytest.mark.parametrize("name", EXPOSURE)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the units, with a Python that is on this host."""
    folder = tmp_path_factory.mktemp("units")
    for unit in (*ROLE.glob(f"files/{FOLDER}/*"), *ROLE.glob(f"templates/{FOLDER}/*")):
        text = unit.read_text().replace("{{ service_accelerator }}", "cuda")
        (folder / unit.name.removesuffix(".j2")).write_text(text.replace(PYTHON, sys.executable))
    return folder


def settings(unit: Path, name: str) -> list[str]:
    """The values of a setting, in their order."""
    found = (line.partition("=") for line in unit.read_text().splitlines())
    return [value for key, _, value in found if key == name]


def test_systemd_understands_every_line(units: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units.iterdir()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@each_unit
def test_it_may_do_little(units: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[name]}", "--no-pager",
         units / f"{name}.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@each_unit
def test_it_is_patient_with_the_metadata_service(units: Path, name: str) -> None:
    """Otherwise one slow answer at the start would leave it without credentials for good."""
    (found,) = settings(units / f"{name}.service", "Environment")
    assert found.split() == ["AWS_METADATA_SERVICE_TIMEOUT=5", "AWS_METADATA_SERVICE_NUM_ATTEMPTS=10"]


def test_a_worker_for_a_gpu_uses_nothing_else(units: Path) -> None:
    (command,) = settings(units / "preheat-worker.service", "ExecStart")
    assert command.endswith(" --device cuda")


def test_the_gpu_is_there_before_the_worker(units: Path) -> None:
    worker = units / "preheat-worker.service"
    for name in ("After", "Wants"):
        assert "nvidia-persistenced.service" in settings(worker, name)[0].split()
    makes = [command.split()[1:] for command in settings(worker, "ExecStartPre")]
    assert makes == [["-c=0", "-c=255"], ["-u", "-c=0"]]


def test_only_wrong_settings_keep_the_worker_down(units: Path) -> None:
    """What is missing otherwise, such as a GPU or the metadata service, may be there at the next try."""
    assert settings(units / "preheat-worker.service", "RestartPreventExitStatus") == ["2"]
