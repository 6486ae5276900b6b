"""The dead-man's switch on a real machine: armed without a login, at each boot, until hygiene removes it."""

import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from factory.console import ROOT, run
from factory.ec2.deadline import UNIT, transient_boothook
from factory.ec2.settings import read_settings
from factory.ec2.startup import user_data
from factory.local import machine as machines
from factory.local.container import Container
from factory.local.image import ARTIFACT, image
from factory.local.machine import USER_DATA, booted
from factory.ssh import Machine

HYGIENE = ROOT / "ansible/roles/hygiene"
ITEMS = yaml.safe_load((HYGIENE / "vars/main.yml").read_text())["__hygiene_items"]


def armed(monkeypatch: pytest.MonkeyPatch, folder: Path, hours: int) -> str:
    """A builder's user data, merged with the user's own."""
    (folder / "own").write_text(USER_DATA)
    monkeypatch.setenv("SETTINGS", "")
    return user_data(replace(read_settings(), builder_hours=hours, user_data_file=str(folder / "own")))


def test_it_is_armed_at_each_boot_until_hygiene_takes_it_from_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image()
    disk = tmp_path / "disk.raw"
    run("cp", "--sparse=always", ARTIFACT.raw, disk)
    with booted(disk, "instance", keep=True, user_data=armed(monkeypatch, tmp_path, 6)) as machine:
        machine.run("cloud-init status --wait")
        assert machine.run(f"systemctl is-active {UNIT}") == "active\n"

    # Without cloud-init, as if it were broken.
    with booted(disk, "instance", keep=True) as machine:
        machine.run("cloud-init status --wait")
        assert machine.run(f"systemctl is-active {UNIT}") == "active\n"
        root = machine.console.parent / "disk"
        items = json.dumps([item for item in ITEMS if UNIT in item["path"]])
        found = run(sys.executable, HYGIENE / "files/hygiene.py", "clean", root, items)
        assert len(found.splitlines()) == 2, "the unit, and the link that starts it"
        left = "sudo grep -rlI preheat-deadline /etc /usr/lib/systemd || echo nothing"
        assert machine.run(left) == "nothing\n"
        assert machine.run(f"systemctl is-active {UNIT}") == "active\n", "the builder keeps it"


@pytest.mark.parametrize("proof", [False, True])
def test_a_machine_whose_deadline_is_past_powers_itself_off(
    proof: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both the builder and the proof's instance."""
    image()
    data = armed(monkeypatch, tmp_path, -1)
    if proof:
        data = transient_boothook(datetime.now(UTC) - timedelta(hours=1))
    ended = []

    def wait_for_end(_machine: Machine, process: Container, _seconds: float) -> None:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        ended.append(process.poll())

    monkeypatch.setattr(machines, "wait_for_ssh", wait_for_end)
    with booted(ARTIFACT.raw, "instance", keep=False, user_data=data):
        assert ended == [0]
