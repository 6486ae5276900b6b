"""`make fleet` and its kin as a test runs them: in this process, against moto's server.

Whoever runs them has the permissions of docs/fleet-policy.json and no others: the server refuses the rest.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from factory.console import ROOT, FactoryError
from factory.ec2 import stack
from factory.ec2.fleet import fleet, fleet_remove
from factory.ec2.fleetcheck import ROLES
from factory.ec2.fleetstatus import fleet_status
from factory.inputs import VERSION
from tests.ami.cloud import BUILDER, HOME, Cloud, served
from tests.fleet import stacks
from tests.fleet.permissions import questions

POLICY = json.loads((ROOT / "docs/fleet-policy.json").read_text())
COMMANDS = {"fleet": fleet, "fleet-remove": fleet_remove, "fleet-status": fleet_status}


@dataclass
class Deployer:
    """The commands, with settings that a test can change."""

    cloud: Cloud
    path: Path
    capsys: pytest.CaptureFixture[str]
    settings: dict[str, Any] = field(default_factory=lambda: {"region": HOME, "name": "preheat-test"})

    @property
    def name(self) -> str:
        """The name of the fleet."""
        return str(self.settings["name"])

    def run(self, command: str = "fleet") -> str:
        """Run one to its end; what it printed on both streams. Raises its FactoryError."""
        self.path.write_text(yaml.safe_dump(self.settings))
        self.capsys.readouterr()
        COMMANDS[command]()
        printed = self.capsys.readouterr()
        return printed.out + printed.err

    def refused(self, command: str, *says: str) -> str:
        """Run one that fails with these words; its error."""
        with pytest.raises(FactoryError) as error:
            self.run(command)
        for words in says:
            assert words in str(error.value), str(error.value)
        return str(error.value)

    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        return stacks.outputs(self.cloud.client("cloudformation"), self.name)


@cache
def session() -> Any:
    """The deployer's session for all tests: boto3 takes long to read what it knows of EC2."""
    keys = {"aws_access_key_id": BUILDER, "aws_secret_access_key": "testing"}
    return boto3.Session(region_name=HOME, **keys)


@contextmanager
def aws() -> Iterator[Cloud]:
    """moto's server, which judges the deployer."""
    with served(Cloud(policy=POLICY, questions=questions)) as cloud:
        cloud.reset()  # all servers of a process have the same contents
        yield cloud


def prepare(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, settings: Path) -> None:
    """An account with an AMI of this version, and the deployer's environment."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session())
    for name, value in {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SETTINGS": str(settings),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REMOVE", raising=False)
    monkeypatch.setattr(stack, "PAUSE", 0.05)
    stacks.complete(monkeypatch.setattr)
    for role, service in ROLES.items():  # moto gives the one for spot another name
        cloud.client("iam").create_role(
            RoleName=role, Path=f"/aws-service-role/{service}/", AssumeRolePolicyDocument="{}"
        )
    name_ami(cloud)


def name_ami(cloud: Cloud, tags: dict[str, str] | None = None, **disk: Any) -> str:
    """Register an AMI with tags, name it in the SSM parameter, and return its id."""
    ec2 = cloud.client("ec2")
    snapshot = ec2.create_snapshot(
        VolumeId=ec2.create_volume(Size=8, AvailabilityZone=f"{HOME}a", **disk)["VolumeId"]
    )["SnapshotId"]
    ami: str = ec2.register_image(
        Name=f"preheat-{snapshot}",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )["ImageId"]
    wanted = {"preheat:version": VERSION} if tags is None else tags
    if wanted:
        ec2.create_tags(Resources=[ami], Tags=[{"Key": k, "Value": v} for k, v in wanted.items()])
    cloud.client("ssm").put_parameter(Name="/preheat/ami", Value=ami, Type="String", Overwrite=True)
    return ami
