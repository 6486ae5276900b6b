"""The fleet's worker on the booted artifact: there, sound, and not started without a fleet."""

from typing import Any

import pytest
from testinfra.host import Host

UNITS = ("preheat-worker.service", "preheat-watchdog.service")
each_unit = pytest.mark.parametrize("unit", UNITS)


@each_unit
def test_only_root_can_change_the_unit(host: Host, unit: str) -> None:
    file = host.file(f"/etc/systemd/system/{unit}")
    assert (file.user, file.mode) == ("root", 0o644)


def test_systemd_understands_every_line(host: Host) -> None:
    done = host.run(f"sudo systemd-analyze verify --man=no --recursive-errors=no {' '.join(UNITS)}")
    assert (done.rc, done.stderr) == (0, "")


def test_the_model_runs_where_the_image_was_made_for(host: Host, record: dict[str, Any]) -> None:
    command = host.check_output(f"systemctl show --property=ExecStart {UNITS[0]}")
    assert f" --device {record['accelerator']} " in command


@each_unit
def test_it_has_not_been_started(host: Host, unit: str) -> None:
    shown = host.check_output(f"systemctl show --property=LoadState,ActiveState,ConditionTimestamp {unit}")
    assert set(shown.split()) == {"LoadState=loaded", "ActiveState=inactive", "ConditionTimestamp="}


def test_nothing_would_start_it(host: Host) -> None:
    assert host.check_output("find /etc/systemd/system -lname '*preheat-w*'") == ""
    assert not host.file("/etc/preheat").exists


def test_started_without_settings_it_does_nothing(host: Host) -> None:
    host.check_output(f"sudo systemctl start {UNITS[0]}")
    for unit in UNITS:
        shown = host.check_output(f"systemctl show --property=ActiveState,ConditionResult {unit}")
        assert set(shown.split()) == {"ActiveState=inactive", "ConditionResult=no"}
