"""After the role: nothing that was planted is left, and the check is green."""

from testinfra.host import Host


def test_the_check_reports_nothing(findings: list[str]) -> None:
    assert findings == []


def test_nothing_planted_is_left_anywhere(host: Host) -> None:
    # Search by content, to be independent of the list. In a container, /tmp is a separate file system.
    assert host.run("find / /tmp -xdev -type f -size -9c -exec grep -lx planted {} +").stdout == ""


def test_the_machine_id_is_there_and_empty(host: Host) -> None:
    machine_id = host.file("/etc/machine-id")
    assert machine_id.is_file
    assert machine_id.size == 0


def test_the_system_still_runs(host: Host) -> None:
    for unit in ("dbus.socket", "systemd-journald.service"):
        assert host.service(unit).is_running
    assert host.file("/var/log").is_directory
