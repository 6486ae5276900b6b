"""The list of what a start reads, and the unit that reads it ahead, after the role `prefetch`."""

import json

import pytest
from testinfra.host import Host

HOME = "/opt/transcribe"
LIST = f"{HOME}/prefetch.list"
STATE = f"{HOME}/state/whisper-nato.safetensors"


@pytest.fixture
def listed(host: Host) -> dict[str, list[tuple[int, int]]]:
    """The ranges, offset and length, of each file, in the order of the list."""
    found: dict[str, list[tuple[int, int]]] = {}
    for line in host.file(LIST).content_string.splitlines():
        if not line.startswith("#"):
            offset, length, path = line.split(" ", 2)
            found.setdefault(path, []).append((int(offset), int(length)))
    return found


def test_a_start_is_listed_in_its_order(listed: dict[str, list[tuple[int, int]]]) -> None:
    paths = list(listed)

    def first(part: str) -> int:
        return next(number for number, path in enumerate(paths) if part in path)

    assert first("/systemd") < first("/sshd") < first("runtime/transcribe.py")
    assert (
        first("runtime/transcribe.py") < first("libtorch_cpu.so") < first("botocore/data/sqs/") < first(STATE)
    )


def test_the_state_file_is_listed_whole(host: Host, listed: dict[str, list[tuple[int, int]]]) -> None:
    assert listed[STATE] == [(0, host.file(STATE).size)]


def test_nothing_is_listed_that_each_machine_has_of_its_own(listed: dict[str, list[tuple[int, int]]]) -> None:
    ours = ("/home/", "/root/", "/run/", "/var/", "/etc/ssh/ssh_host_", "/etc/machine-id")
    assert not [path for path in listed if path.startswith(ours)]


def test_image_json_says_how_much_it_is(host: Host, listed: dict[str, list[tuple[int, int]]]) -> None:
    record = json.loads(host.file(f"{HOME}/image.json").content_string)
    assert record["prefetch"] == {
        "files": len(listed), "bytes": sum(length for parts in listed.values() for _, length in parts)
    }  # fmt: skip
    assert record["state"]["path"] == STATE  # other roles' entries are kept


def test_the_unit_reads_all_of_it_and_ends_well(host: Host) -> None:
    assert host.service("preheat-prefetch.service").is_enabled
    host.check_output("systemctl start --wait preheat-prefetch.service")
    assert host.check_output("systemctl show --property=Result preheat-prefetch.service") == "Result=success"
    said = host.check_output("journalctl --unit preheat-prefetch.service --output=cat --grep '^read '")
    record = json.loads(host.file(f"{HOME}/image.json").content_string)
    assert said.splitlines()[-1].startswith(f"read {record['prefetch']['bytes'] / 1e6:.0f} MB in ")
    assert "could not be read" not in said.splitlines()[-1]


def test_nothing_of_the_recorder_is_left(host: Host) -> None:
    assert host.check_output("find /etc/systemd /run/systemd /var/tmp /run -name 'preheat-record*'") == ""
    assert host.run("systemctl is-enabled preheat-record.service").rc != 0
