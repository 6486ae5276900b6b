"""The licence file that the role `venv` writes, tested on the build host's venv, which has more packages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[2] / "ansible/roles/venv"
LOCK = (ROLE / "files/requirements.txt").read_text()
LIBRARIES: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__venv_libraries"]


def write(file: Path, libraries: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the role's program as the role does."""
    return subprocess.run(
        [sys.executable, "-B", "-", file, json.dumps(libraries)],
        input=(ROLE / "files/licences.py").read_text(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_every_package_is_named_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "licences.txt"
    first = write(file, LIBRARIES)
    assert (first.returncode, first.stdout, first.stderr) == (0, "changed\n", "")
    named = set(file.read_text().splitlines())
    packages = [line.split()[0].replace("==", " ") for line in LOCK.splitlines() if line[:1].isalnum()]
    assert [package for package in packages if package not in named] == []
    again = write(file, LIBRARIES)
    assert (again.returncode, again.stdout) == (0, "")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("lost", ["x264", "FFmpeg"])
def test_a_library_of_unknown_licence_fails_the_build(lost: str, tmp_path: Path) -> None:
    known = [library for library in LIBRARIES["av"]["libraries"] if library["of"] != lost]
    done = write(tmp_path / "licences.txt", {"av": LIBRARIES["av"] | {"libraries": known}})
    assert done.returncode == 1
    assert "whose licences are not listed: add them to __venv_libraries" in done.stderr
    assert {"x264": "libx264-", "FFmpeg": "libavcodec-"}[lost] in done.stderr
    assert list(tmp_path.iterdir()) == []
