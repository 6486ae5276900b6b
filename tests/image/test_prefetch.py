"""The blocks that a start reads: listed, contiguous on the artifact's disk, and read ahead at boot."""

import fcntl
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from factory.console import ROOT
from factory.local.basedisk import ROOT_OFFSET
from factory.ssh import Machine

FILES = ROOT / "ansible/roles/prefetch/files"
HOME = "/opt/transcribe"
LIST = f"{HOME}/prefetch.list"
UNIT = "preheat-prefetch.service"
PAGE = 4096
BLOCK = 1 << 19  # of a snapshot
FIEMAP = 0xC020660B  # FS_IOC_FIEMAP, of struct fiemap: start, length, flags, mapped, room, reserved
HEAD, EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")

Range = tuple[str, int, int]  # path, offset, length


def ranges(text: str) -> Iterator[Range]:
    """The lines of a list."""
    for line in text.splitlines():
        if not line.startswith("#"):
            offset, length, path = line.split(" ", 2)
            yield path, int(offset), int(length)


def pages(listed: Iterator[Range]) -> set[tuple[str, int]]:
    """Every page of them."""
    return {(path, at) for path, offset, length in listed for at in range(offset, offset + length, PAGE)}


def extents(path: Path) -> list[tuple[int, int, int]]:
    """Where a file lies on its disk: offset in the file, offset on the file system, length."""
    most = 1 << 15
    answer = bytearray(HEAD.size + most * EXTENT.size)
    HEAD.pack_into(answer, 0, 0, 2**64 - 1, 0, 0, most, 0)
    with path.open("rb") as file:
        fcntl.ioctl(file, FIEMAP, answer, True)
    count = HEAD.unpack_from(answer)[3]
    assert count < most
    return [EXTENT.unpack_from(answer, HEAD.size + i * EXTENT.size)[:3] for i in range(count)]


def test_few_blocks_hold_what_is_listed(root: Path) -> None:
    listed = list(ranges((root / LIST.lstrip("/")).read_text()))
    where = {path: extents(root / path.lstrip("/")) for path, *_ in listed}
    blocks: set[int] = set()
    for path, offset, length in listed:
        for logical, physical, size in where[path]:
            begin, end = max(offset, logical), min(offset + length, logical + size)
            if begin < end:
                first, last = (ROOT_OFFSET + physical + at - logical for at in (begin, end - 1))
                blocks.update(range(first // BLOCK, last // BLOCK + 1))
    assert len(blocks) <= 1.25 * sum(length for *_, length in listed) / BLOCK


def test_the_list_can_be_right(machine: Machine, host: Host, record: dict[str, Any]) -> None:
    machine.upload(FILES / "prefetch_list.py", "prefetch_list.py")
    done = host.run(f"sudo python3 prefetch_list.py check {LIST} {record['state']['path']}")
    assert (done.rc, done.stderr) == (0, "")
    sizes = json.loads(host.check_output(f"sudo python3 prefetch_list.py sizes {LIST}"))
    assert record["prefetch"] == sizes


@contextmanager
def read_ahead(kib: int, disk: Path) -> Iterator[None]:
    """Limit the kernel's read-ahead on the local machine's disk to `kib` KiB."""
    loops = subprocess.run(
        ["losetup", "--associated", disk, "--noheadings", "--output=NAME"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    knobs = [Path("/sys/block") / Path(name).name / "queue/read_ahead_kb" for name in loops]
    before = [knob.read_text() for knob in knobs]
    assert knobs
    for knob in knobs:
        knob.write_text(f"{kib}\n")
    try:
        yield
    finally:
        for knob, value in zip(knobs, before, strict=True):
            knob.write_text(value)


def test_a_start_reads_nothing_else(
    request: pytest.FixtureRequest, machine: Machine, host: Host, record: dict[str, Any]
) -> None:
    """At most a twentieth of the pages: memory layout differs a little from start to start."""
    machine.upload(FILES / "record.py", "record.py")
    with ExitStack() as stack:
        if not request.config.getoption(
            "--machine", None
        ):  # whose kernel is not asked by the recorder itself
            stack.enter_context(read_ahead(PAGE // 1024, request.getfixturevalue("disk")))
        command = f"transcribe --load=state --model={record['model']['name']} {HOME}/sample.flac"
        host.check_output(f"sudo python3 record.py run started {command}")
    read = pages(ranges(host.check_output("cat started")))
    listed = pages(ranges(host.check_output(f"cat {LIST}")))
    assert len(read) * PAGE > record["state"]["bytes"]
    outside = read - listed
    assert len(outside) <= 0.05 * len(read), sorted(outside)[:20]


def said(host: Host) -> str:
    """The last line of the unit."""
    lines = host.check_output(f"sudo journalctl --quiet --unit={UNIT} --output=cat --grep=read")
    return str(lines.splitlines()[-1])


def test_the_boot_has_read_it_ahead(host: Host, record: dict[str, Any]) -> None:
    shown = host.check_output(f"systemctl show {UNIT} --property=Result,ActiveState,ProtectSystem")
    assert set(shown.split()) == {"Result=success", "ActiveState=inactive", "ProtectSystem=strict"}
    found = re.fullmatch(r"read (\d+) MB in ([\d.]+) s, \d+ MB/s", said(host))
    assert found
    assert int(found[1]) == round(record["prefetch"]["bytes"] / 1e6)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (f"sed -i '$ s|.*|0 9 /gone|' {LIST}", "of 1 files, such as /gone: No such file or directory"),
        (f"sed -i '$ s|.*|what?|' {LIST}", f"; 1 lines of {LIST} are damaged"),
        (f"truncate --size=0 {LIST}", "read 0 MB in"),
    ],
)
def test_a_list_that_is_wrong_is_told_and_a_start_goes_on(host: Host, damage: str, says: str) -> None:
    host.check_output(f"sudo cp {LIST} /run/list")
    try:
        host.check_output(f"sudo {damage}")
        host.check_output(f"sudo systemctl start --wait {UNIT}")
        assert says in said(host)
        assert host.run(f"transcribe {HOME}/sample.flac").rc == 0
    finally:
        host.check_output(f"sudo cp /run/list {LIST}")


def test_nothing_of_the_recorder_is_left(host: Host) -> None:
    assert host.check_output("sudo find /etc/systemd /run/systemd /var/tmp -name 'preheat-record*'") == ""
