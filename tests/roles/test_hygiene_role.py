"""The hygiene list and its check, on a folder in place of a disk: red for each item, then green."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
ROLE = PROJECT / "ansible/roles/hygiene"
ITEMS: list[dict[str, str]] = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__hygiene_items"]


def hygiene(command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run the role's program on a root folder."""
    return subprocess.run(
        [sys.executable, ROLE / "files/hygiene.py", command, root, json.dumps(ITEMS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def plant(root: Path, items: list[dict[str, str]]) -> None:
    """Plant an offender for each of the items."""
    subprocess.run(
        [sys.executable, PROJECT / "molecule/hygiene/plant.py", root, json.dumps(items)],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A disk with nothing to find: the folders that must stay, the machine's id already empty."""
    for folder in ("etc", "tmp", "var/log/apt", "var/lib/apt/lists/partial", "root", "home/admin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/machine-id").touch()
    return tmp_path


def test_a_clean_disk_is_green(root: Path) -> None:
    done = hygiene("check", root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["path"])
def test_each_item_is_found_and_removed(root: Path, item: dict[str, str]) -> None:
    plant(root, [item])
    red = hygiene("check", root)
    assert red.returncode == 1
    assert [line.split(": must be ")[1] for line in red.stdout.splitlines()] == [
        f"{item['state']}: {item['reason']}"
    ]
    assert hygiene("clean", root).returncode == 0
    green = hygiene("check", root)
    assert (green.returncode, green.stdout) == (0, "")


def test_a_home_is_roots_and_everybodys(root: Path) -> None:
    for home in ("root", "home/admin", "home/.hidden"):
        (root / home / ".aws").mkdir(parents=True)
    assert len(hygiene("check", root).stdout.splitlines()) == 3
    hygiene("clean", root)
    assert list(root.rglob(".aws")) == []


def test_cleaning_leaves_what_must_stay(root: Path) -> None:
    plant(root, ITEMS)
    (root / "home/admin/notes").write_text("kept")
    hygiene("clean", root)
    for path in ("etc/machine-id", "tmp", "var/log/apt", "var/lib/apt/lists/partial", "home/admin/notes"):
        assert (root / path).exists(), path


def test_a_link_is_removed_and_not_followed(root: Path) -> None:
    (root / "precious").mkdir()
    (root / "precious/file").write_text("kept")
    for link in ("tmp/link", "var/log/link", "root/.cache"):
        (root / link).symlink_to(root / "precious")
    (root / "root/.netrc").symlink_to("nowhere")
    assert len(hygiene("check", root).stdout.splitlines()) == 4
    hygiene("clean", root)
    assert hygiene("check", root).returncode == 0
    assert (root / "precious/file").read_text() == "kept"


def test_a_name_that_begins_with_a_dot_does_not_hide(root: Path) -> None:
    (root / "var/lib/dhcp").mkdir(parents=True)
    (root / "var/lib/dhcp/.lease").touch()
    (root / "home/.admin/.ssh").mkdir(parents=True)
    assert len(hygiene("check", root).stdout.splitlines()) == 2


def test_the_check_changes_nothing(root: Path) -> None:
    plant(root, ITEMS)
    before = sorted(root.rglob("*"))
    hygiene("check", root)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["path"])
def test_an_item_says_what_and_why(item: dict[str, str]) -> None:
    assert set(item) == {"path", "state", "reason"}
    assert item["path"].startswith(("/", "~/"))
    assert item["state"] in ("absent", "empty", "folders", "localhost")
    assert item["reason"]
