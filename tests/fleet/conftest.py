"""The fleet on moto, with the real worker as a process of its own for each instance."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.ami.cloud import Cloud
from tests.background import quiet_afterwards
from tests.fleet import stack, stacks
from tests.fleet.deployer import Deployer, aws, prepare
from tests.fleet.fleet import Fleet
from tests.fleet.instance import Instance
from tests.moto_server import moto_server
from tests.runtime import homes

__all__ = ["quiet_afterwards"]  # a fixture


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of moto's server."""
    with moto_server() as address:
        yield address


@pytest.fixture
def moto() -> Iterator[None]:
    """moto, in this process."""
    with stacks.moto():
        yield


@pytest.fixture(scope="module")
def account() -> Iterator[Cloud]:
    """An account of AWS in this process, which judges whoever runs make fleet."""
    with aws() as cloud:
        yield cloud


@pytest.fixture
def deployer(
    account: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Deployer]:
    """The account with an AMI; fails if a test has asked for more than the policy allows."""
    account.reset()
    prepare(account, monkeypatch, tmp_path / "my.yml")
    yield Deployer(account, tmp_path / "my.yml", capsys)
    assert account.denied == []


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as on the image, with the fixture model."""
    return homes.with_fixture(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of short, long and noise: .flac and .txt."""
    return homes.ROOT / "tests/fixtures/samples"


@pytest.fixture(scope="module")
def fleet(server: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet, without instances.

    It stands for Auto Scaling and Lambda, which moto does not run: it starts a worker for each instance of
    the group, and shuts it down when its instance is ended.
    """
    httpx2.post(f"{server}/moto-api/reset").raise_for_status()
    fleet = Fleet(server, stack.made(server, "preheat"), home, tmp_path_factory.mktemp("instances"))
    yield fleet
    fleet.clear()


@pytest.fixture(scope="module")
def worker(fleet: Fleet) -> Instance:
    """An instance for all tests of a file."""
    return fleet.launch().ready()


@pytest.fixture
def alone(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet for one test: without instances and messages, before and after."""
    fleet.clear()
    yield fleet
    fleet.clear()
