"""The finished image, three ways: its disk before any boot, booted by systemd-nspawn, and its record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from factory.basedisk import ROOT_OFFSET
from factory.image import ARTIFACT, image
from factory.machine import Machine, booted, workspace
from factory.mounts import mounted

SAMPLES = Path(__file__).parent.parent / "fixtures/samples"
RECORDINGS = SAMPLES.with_name("recordings")


@pytest.fixture(scope="session")
def disk() -> Path:
    """The artifact; built now if it is not there or its inputs have changed."""
    image()
    return ARTIFACT.raw


@pytest.fixture(scope="session")
def record(disk: Path) -> dict[str, Any]:
    """image.json as it was published beside the artifact."""
    record: dict[str, Any] = json.loads(ARTIFACT.record.read_text())
    return record


@pytest.fixture(scope="session")
def root(disk: Path) -> Iterator[Path]:
    """The artifact's root file system as it ships: mounted read-only, never booted."""
    with (
        workspace("test-disk") as folder,
        mounted(disk, folder / "disk", ROOT_OFFSET, read_only=True) as root,
    ):
        yield root


@pytest.fixture(scope="session")
def machine(disk: Path) -> Iterator[Machine]:
    """The artifact booted on a throw-away overlay."""
    with booted(disk, "test", keep=False) as machine:
        machine.run("cloud-init status --wait")
        yield machine


@pytest.fixture(scope="session")
def host(machine: Machine) -> Host:
    """The booted artifact over ssh, as its user."""
    return testinfra.get_host("ssh://machine", ssh_config=str(machine.config), timeout=60)


@pytest.fixture(scope="session")
def recordings(machine: Machine) -> str:
    """The folder on the booted machine that holds the samples."""
    folder = "samples"
    machine.run(f"mkdir {folder}")
    for sample in SAMPLES.glob("*.flac"):
        machine.upload(sample, f"{folder}/{sample.name}")
    for recording in ("hang.wav", "phone.amr"):
        machine.upload(RECORDINGS / recording, f"{folder}/{recording}")
    return folder
