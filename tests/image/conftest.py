"""The finished image in three forms: its disk before any boot, booted by systemd-nspawn, and its image.json.

factory/ec2/proof.py runs these tests on an instance of an AMI instead: --machine is an ssh configuration for
it, --record its image.json. Tests that read the disk are then deselected.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from factory.console import BUILD
from factory.local.basedisk import ROOT_OFFSET, make_base_disk
from factory.local.image import ARTIFACT, image
from factory.local.machine import booted
from factory.local.mounts import mounted
from factory.ssh import Machine
from factory.workspace import workspace

SAMPLES = Path(__file__).parent.parent / "fixtures/samples"
RECORDINGS = SAMPLES.with_name("recordings")


OF_THIS_HOST = {"test_factory.py", "test_host.py", "test_killed.py", "test_s3.py", "test_worker.py"}
DISK = {"disk", "root", "base_disk"}  # what only the artifact of `make image` has


def pytest_addoption(parser: pytest.Parser) -> None:
    """How to reach an instance of an AMI."""
    parser.addoption("--machine", type=Path, help="ssh's configuration for the host `machine`, to test that")
    parser.addoption("--record", type=Path, help="the image.json that belongs to it")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """On an instance, ignore the test files that are about the build host or need it."""
    return True if config.getoption("--machine", None) and collection_path.name in OF_THIS_HOST else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On an instance, deselect tests that need the disk."""
    if config.getoption("--machine", None):
        left_out = [item for item in items if DISK & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def disk() -> Path:
    """The artifact; built now if it is not there or its inputs have changed."""
    image()
    return ARTIFACT.raw


@pytest.fixture(scope="session")
def base_disk() -> Iterator[Path]:
    """What an image starts from: a machine that boots."""
    disk = BUILD / "run/test-base.raw"
    with workspace("test-base") as folder:
        make_base_disk(disk, folder)
    yield disk
    disk.unlink()


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> dict[str, Any]:
    """image.json as it was published beside the artifact."""
    path: Path | None = request.config.getoption("--record", None)
    if not path:
        request.getfixturevalue("disk")
        path = ARTIFACT.record
    record: dict[str, Any] = json.loads(path.read_text())
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
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The instance, or the artifact booted on a throw-away overlay."""
    with ExitStack() as stack:
        config: Path | None = request.config.getoption("--machine", None)
        if config:
            machine = Machine("ami", 22, "admin", config.with_name("key"), config, config)
        else:
            machine = stack.enter_context(booted(request.getfixturevalue("disk"), "test", keep=False))
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
