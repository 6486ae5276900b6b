"""The watchdog, as a process of its own; Auto Scaling is moto's, systemctl is a stand-in."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.fleet.metadata_server import MetadataServer
from tests.runtime.homes import RUNTIME
from tests.runtime.places.conftest import Bucket


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the worker would say that it is ready; systemctl notes there what it is asked to do."""
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("PREHEAT_GROUP", "group")
    return tmp_path


@pytest.fixture
def group(bucket: Bucket, server: str, metadata: MetadataServer) -> Any:
    """Auto Scaling, with a group of one instance, which is the one of the metadata."""
    settings = {"endpoint_url": server, "region_name": "us-east-1"}
    ec2, client = boto3.client("ec2", **settings), boto3.client("autoscaling", **settings)
    data = {"ImageId": "ami-12c6146b", "InstanceType": "g6.xlarge"}  # one that moto knows
    ec2.create_launch_template(LaunchTemplateName="worker", LaunchTemplateData=data)
    client.create_auto_scaling_group(
        AutoScalingGroupName="group",
        LaunchTemplate={"LaunchTemplateName": "worker"},
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=1,
        AvailabilityZones=["us-east-1a"],
    )
    (metadata.answers["instance-id"],) = [each["InstanceId"] for each in found(client)["Instances"]]
    return client


def found(client: Any) -> dict[str, Any]:
    """What Auto Scaling says of the group."""
    return dict(client.describe_auto_scaling_groups()["AutoScalingGroups"][0])


def watchdog() -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = [sys.executable, RUNTIME / "watchdog.py"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_an_instance_ends_if_its_worker_is_not_ready(folder: Path, group: Any) -> None:
    (folder / "ready").touch()
    done = watchdog()
    assert (done.returncode, done.stderr) == (0, "watchdog: the worker is ready\n")
    assert found(group)["DesiredCapacity"] == 1
    (folder / "ready").unlink()
    done = watchdog()
    assert done.returncode == 0 and "not ready after 900 s: the instance ends" in done.stderr
    assert found(group)["DesiredCapacity"] == 0 and found(group)["Instances"] == []
    assert not (folder / "asked").exists()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("trouble", ["no group", "no metadata", "no region"])
def test_switched_off_where_the_group_cannot_end_it(
    trouble: str, folder: Path, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata.down = trouble == "no metadata"
    if trouble == "no region":
        monkeypatch.delenv("AWS_REGION")
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    done = watchdog()
    assert done.returncode == 0 and "the instance is switched off, which ends it" in done.stderr
    assert (folder / "asked").read_text() == "poweroff\n"


def test_it_loads_next_to_nothing() -> None:
    code = "import sys; from preheat.fleet import watchdog; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=RUNTIME, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
