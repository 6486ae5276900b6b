"""The units of the worker and of its watchdog after the role `service`, without a model and without AWS."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from testinfra.host import Host

WORKER = "preheat-worker.service"
WATCHDOG = "preheat-watchdog.service"
SETTINGS = "/etc/preheat/worker.env"


def state(host: Host, unit: str) -> dict[str, str]:
    """What systemd says of a unit."""
    shown = host.check_output(f"systemctl show {unit}")
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


@pytest.fixture
def settings(host: Host) -> Iterator[str]:
    """An empty file of settings, at which the worker ends with exit code 2. All is stopped afterwards."""
    host.check_output(f"mkdir -p /etc/preheat && touch {SETTINGS}")
    yield SETTINGS
    host.check_output(f"systemctl stop {WORKER} {WATCHDOG}; systemctl reset-failed; rm -r /etc/preheat")


def test_only_root_can_change_them(host: Host) -> None:
    for unit in (WORKER, WATCHDOG):
        file = host.file(f"/etc/systemd/system/{unit}")
        assert (file.user, file.mode) == ("root", 0o644)


def test_the_model_runs_where_the_image_says(host: Host) -> None:
    assert state(host, WORKER)["ExecStart"].count(" --device cuda ") == 1
    for unit in (WORKER, WATCHDOG):
        assert "AWS_METADATA_SERVICE_NUM_ATTEMPTS=10" in state(host, unit)["Environment"].split()


def test_neither_is_enabled(host: Host) -> None:
    assert not host.service(WORKER).is_enabled
    assert host.check_output(f"find /etc/systemd/system -lname '*{WORKER}' -o -lname '*{WATCHDOG}'") == ""


def test_without_settings_neither_starts(host: Host) -> None:
    host.check_output(f"systemctl start {WORKER}")
    for unit in (WORKER, WATCHDOG):
        now = state(host, unit)
        assert (now["ActiveState"], now["ConditionResult"]) == ("inactive", "no")


def test_wrong_settings_end_the_worker_for_good_but_not_the_watchdog(host: Host, settings: str) -> None:
    assert host.file(settings).size == 0
    host.run(f"systemctl start --wait {WORKER}")
    worker = state(host, WORKER)
    assert (worker["Result"], worker["ExecMainStatus"], worker["NRestarts"]) == ("exit-code", "2", "0")
    assert worker["ActiveState"] == "failed"
    assert state(host, WATCHDOG)["ActiveState"] == "active"


@contextmanager
def replaced(host: Host, command: str, *settings: str) -> Iterator[None]:
    """Run a command in the worker's place, as there is no model here."""
    drop_in = f"/run/systemd/system/{WORKER}.d"
    lines = "\n".join(["[Service]", "ExecStart=", f"ExecStart={command}", *settings])
    host.check_output("mkdir -p %s && echo %s >%s", drop_in, lines, f"{drop_in}/command.conf")
    host.check_output("systemctl daemon-reload")
    try:
        yield
    finally:
        host.check_output(f"systemctl stop {WORKER}; rm -r {drop_in}; systemctl daemon-reload")


@pytest.mark.usefixtures("settings")
def test_a_worker_that_is_killed_starts_again_and_is_not_ready_meanwhile(host: Host) -> None:
    with replaced(host, "sleep 60", "RestartSec=100ms"):
        host.check_output(f"systemctl start {WORKER} && touch /run/preheat/ready")
        host.check_output(f"systemctl kill --signal=KILL {WORKER}")
        restarts = f"systemctl show --property=NRestarts --value {WORKER}"
        host.check_output(f"timeout 30 sh -c 'until [ $({restarts}) = 1 ]; do sleep 0.1; done'")
        assert not host.file("/run/preheat/ready").exists


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("touch /run/preheat/ready /tmp/recording", True),
        ("touch /opt/transcribe/ready", False),
        ("touch /etc/preheat/worker.env", False),
        ("grep 'NoNewPrivs:.*1' /proc/self/status", True),
        ("grep 'CapBnd:.*[1-9a-f]' /proc/self/status", False),
    ],
)
def test_what_it_may_do(host: Host, command: str, allowed: bool) -> None:
    with replaced(host, command, "Restart=no"):
        assert (host.run(f"systemctl start --wait {WORKER}").rc == 0) == allowed


@pytest.mark.usefixtures("settings")
def test_it_has_a_user_of_its_own(host: Host) -> None:
    with replaced(host, "sleep 60"):
        host.check_output(f"systemctl start {WORKER}")
        user = host.check_output(f"stat --format=%u /proc/{state(host, WORKER)['MainPID']}")
        assert 61184 <= int(user) <= 65519  # of DynamicUser=
