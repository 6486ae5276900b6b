"""The artifact's disk before its first boot: nothing that the hygiene role lists, and no key of the build."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from factory.console import BUILD, ROOT
from factory.ec2.deadline import UNIT

ROLE = ROOT / "ansible/roles/hygiene"
ITEMS = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__hygiene_items"]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["path"])
def test_listed_path_is_gone_or_reset(root: Path, item: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, ROLE / "files/hygiene.py", "check", root, json.dumps([item])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_unit_ends_the_instance(root: Path) -> None:
    """The builder's deadline unit would power off every instance of the image; checked beyond the list."""
    left = [path for top in ("etc", "usr/lib/systemd", "var/lib") for path in (root / top).rglob(f"*{UNIT}*")]
    assert left == []


def test_no_private_key_is_left(root: Path) -> None:
    """Certificates ship with packages; private keys do not."""
    done = subprocess.run(
        ["grep", "-rlE", "--exclude-dir=venv", "-e", "-----BEGIN [A-Z ]*PRIVATE KEY-----", root],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    texts = [path for path in done.stdout.splitlines() if not path.endswith((".py", ".pyc", ".so"))]
    assert [path for path in texts if "/usr/" not in path] == []


def test_no_key_of_the_build_is_left(root: Path) -> None:
    key = (BUILD / "run/image/key.pub").read_text().split()[1]
    done = subprocess.run(
        ["grep", "-rlF", "--exclude-dir=venv", key, root], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_nothing_of_the_build_host_is_left(root: Path) -> None:
    """Neither its certificate authorities (behind a proxy they differ from Debian's) nor its folders."""
    assert [path for path in (root / "run").rglob("*") if not path.is_dir()] == []
    done = subprocess.run(
        ["grep", "-rlF", "--exclude-dir=venv", str(ROOT), root], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
