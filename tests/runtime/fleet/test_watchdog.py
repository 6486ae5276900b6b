"""The watchdog, as a process of its own; Auto Scaling is moto's, systemctl is a stand-in."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from preheat.fleet import watchdog as module
from tests.fleet.gateway import Gateway
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
    monkeypatch.setenv("PREHEAT_READY_SECONDS", "1")
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
    """Run it until its end."""
    command = [sys.executable, str(RUNTIME / "watchdog.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_an_instance_ends_if_its_worker_is_not_ready(folder: Path, group: Any) -> None:
    done = watchdog()
    assert done.returncode == 0 and "the worker was not ready for 1 s" in done.stderr
    assert found(group)["DesiredCapacity"] == 0 and found(group)["Instances"] == []
    assert not (folder / "asked").exists()


def test_an_instance_more_than_its_group_wants(
    folder: Path, group: Any, server: str, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group cannot want one fewer than none, and ends the instance all the same."""
    instances, name = [metadata.answers["instance-id"]], {"AutoScalingGroupName": "group"}
    group.set_instance_protection(**name, InstanceIds=instances, ProtectedFromScaleIn=True)
    group.set_desired_capacity(**name, DesiredCapacity=0)
    assert found(group)["DesiredCapacity"] == 0 and len(found(group)["Instances"]) == 1
    with Gateway(server) as gateway:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
        done = watchdog()
    assert done.returncode == 0 and not (folder / "asked").exists(), done.stderr
    assert found(group)["DesiredCapacity"] == 0 and found(group)["Instances"] == []


class Clock:
    """Time that passes only while somebody sleeps; `ready` is there during the spans.

    It is touched all the time until `hangs`.
    """

    def __init__(self, ready: Path, *spans: tuple[float, float], hangs: float = math.inf) -> None:
        self.now, self._ready, self._spans, self._hangs = 0.0, ready, spans, hangs

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.now += seconds
        if any(begin <= self.now < end for begin, end in self._spans):
            if self.now < self._hangs or not self._ready.exists():
                self._ready.touch()
                os.utime(self._ready, (0, self.now))
        else:
            self._ready.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("spans", "hangs", "end"),
    [
        ([], math.inf, 900),  # never ready
        ([(600, 700)], math.inf, 1600),  # it dies
        ([(600, 700), (1500, 9000)], math.inf, 9900),  # it starts again in time, and dies later
        ([(600, 700), (1700, 4000)], math.inf, 1600),  # not in time
        ([(600, 9000)], 2000, 5600),  # it hangs
        ([(600, 4000), (4500, 9000)], 2000, 8100),  # it dies while it hangs, and the next one hangs at once
    ],
)
def test_it_watches_for_as_long_as_the_instance_runs(
    spans: list[tuple[float, float]],
    hangs: float,
    end: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(tmp_path / "ready", *spans, hangs=hangs)
    monkeypatch.setattr(module, "time", clock)
    problem = module.watch(tmp_path / "ready", 900)
    assert end - module.EVERY <= clock.now <= end
    assert problem.endswith("for 3600 s" if hangs < end else "for 900 s")


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
