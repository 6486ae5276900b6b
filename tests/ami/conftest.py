"""`make ami` against a stand-in for AWS, with a throw-away copy of the local image as the instance.

moto answers for AWS (cloud.py); Packer, Ansible, ssh and the machine are real.
"""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from factory.console import ROOT
from tests.ami.cloud import Cloud, served
from tests.ami.command import Command, instance

PLAY = """
- name: Do next to nothing
  hosts: all
  gather_facts: false
  tasks:
    - name: The play has begun
      ansible.builtin.wait_for:
        timeout: 1
"""


@pytest.fixture(scope="session")
def server() -> Iterator[Cloud]:
    """The cloud, for all tests."""
    with served() as cloud:
        yield cloud


@pytest.fixture
def cloud(server: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The cloud, reset; fails if a test has asked for more than the policy allows."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep the credentials of an earlier test
    server.reset()
    yield server
    assert server.denied == []


@pytest.fixture
def command(cloud: Cloud, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """`make ami` with the usual choices."""
    return Command(cloud, tmp_path, tmp_path_factory.mktemp("t"))


@pytest.fixture
def quick(command: Command, tmp_path: Path) -> Iterator[Command]:
    """`make ami` on an instance, with a play that does nothing."""
    project = tmp_path / "project"
    (project / "ansible").mkdir(parents=True)
    (project / "ansible/image.yml").write_text(PLAY)
    (project / "ansible/ansible.cfg").write_text((ROOT / "ansible/ansible.cfg").read_text())
    command.project = project
    with instance(command):
        yield command
