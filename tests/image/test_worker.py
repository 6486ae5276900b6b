"""The fleet's worker on the booted artifact: started by the launch template's user data, it transcribes.

AWS is moto's server on this host, and the instance's metadata come from the tests' server; the local machine
shares the host's network. moto makes the stack of deploy/fleet.yml, but starts no instances: an instance is
attached to the group by hand, and the machine takes its place.
"""

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import testinfra
from testinfra.host import Host

from factory.ec2.template import TEMPLATE
from factory.local.machine import booted
from factory.ssh import Machine
from preheat.formats import FORMATS
from tests.fleet import stacks
from tests.fleet.instance import wait as wait_for
from tests.fleet.metadata_server import MetadataServer
from tests.fleet.stack import client
from tests.moto_server import moto_server

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")  # what moto leaves out of the stack

SAMPLES = Path(__file__).parent.parent / "fixtures/samples"
WORKER = "preheat-worker.service"
NAME = "preheat"  # of the stack
KEY = "recordings/a call.flac"
wait = partial(wait_for, seconds=300)  # on a busy host
# Goes before the launch template's script: where this fleet's AWS is, and shorter times.
BEFORE = """\
#!/bin/sh
cat >/run/tests.env <<'END'
AWS_ENDPOINT_URL={aws}
AWS_EC2_METADATA_SERVICE_ENDPOINT={metadata}
{settings}
END
cd /run/systemd/system
for unit in preheat-worker.service preheat-watchdog.service; do
  mkdir $unit.d
  printf '[Service]\\nEnvironmentFile=/run/tests.env\\n' >$unit.d/tests.conf
done
systemctl daemon-reload
"""


@dataclass
class Fleet:
    """The stack in moto, with one instance, and the metadata of that."""

    aws: str  # its address
    metadata: MetadataServer
    outputs: dict[str, str]
    instance: str

    def client(self, service: str) -> Any:
        """A client of the fleet's owner."""
        return client(self.aws, service)

    def upload(self, recording: Path) -> None:
        """Put a recording into the bucket, whose event puts a message into the queue."""
        bucket = self.outputs["InputBucket"]
        self.client("s3").put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"EventBridgeConfiguration": {}},  # which moto drops from the template
        )
        self.client("s3").put_object(Bucket=bucket, Key=KEY, Body=recording.read_bytes())

    def results(self) -> set[str]:
        """The suffixes of what there is of the recording."""
        where = {"Bucket": self.outputs["InputBucket"], "Prefix": f"transcripts/{KEY}."}
        listed = self.client("s3").list_objects_v2(**where).get("Contents", [])
        return {each["Key"].rpartition(".")[2] for each in listed}

    def user_data(self, settings: str) -> str:
        """The launch template's, with lines of settings that hold for this test."""
        (found,) = self.client("ec2").describe_launch_templates()["LaunchTemplates"]
        (version,) = self.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=found["LaunchTemplateId"], Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        script = base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()
        return BEFORE.format(aws=self.aws, metadata=self.metadata.url, settings=settings) + script


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A fleet of one instance, which a machine may take the place of, and a recording that waits."""
    with moto_server() as aws, MetadataServer() as metadata:
        httpx2.post(f"{aws}/moto-api/reset").raise_for_status()
        ec2, cloudformation = client(aws, "ec2"), client(aws, "cloudformation")
        ami, subnet = ec2.describe_images()["Images"][0], ec2.describe_subnets()["Subnets"][0]
        client(aws, "ssm").put_parameter(Name="/preheat/ami", Value=ami["ImageId"], Type="String")
        chosen = {"Subnets": subnet["SubnetId"], "VpcId": subnet["VpcId"]}
        cloudformation.create_stack(
            StackName=NAME,
            TemplateBody=TEMPLATE.read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in chosen.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        outputs = stacks.outputs(cloudformation, NAME)
        (instance,) = ec2.run_instances(
            ImageId=ami["ImageId"], InstanceType="g6.xlarge", MinCount=1, MaxCount=1
        )["Instances"]
        client(aws, "autoscaling").attach_instances(
            AutoScalingGroupName=outputs["Group"], InstanceIds=[instance["InstanceId"]]
        )
        metadata.answers |= {
            "instance-id": instance["InstanceId"],
            "instance-type": "g6.xlarge",
            "autoscaling/target-lifecycle-state": "InService",
        }
        metadata.grant("worker", seconds=6 * 3600)
        fleet = Fleet(aws, metadata, outputs, instance["InstanceId"])
        fleet.upload(SAMPLES / "short.flac")
        yield fleet


@pytest.fixture(scope="module")
def worker(disk: Path, fleet: Fleet) -> Iterator[Host]:
    """The artifact, booted with the fleet's user data, once its worker is ready."""
    with booted(
        disk, "test-worker", keep=False, user_data=fleet.user_data("PREHEAT_IDLE_SECONDS=1")
    ) as machine:
        host = testinfra.get_host("ssh://machine", ssh_config=str(machine.config), timeout=60)
        wait("the worker to be ready", lambda: host.file("/run/preheat/ready").exists)
        yield host


def test_user_data_start_it_now_and_at_every_boot(worker: Host) -> None:
    assert worker.service(WORKER).is_enabled
    for unit in (WORKER, "preheat-watchdog.service"):
        assert worker.service(unit).is_running


def test_it_is_not_root(worker: Host) -> None:
    pid = worker.check_output(f"systemctl show --property=MainPID --value {WORKER}")
    assert 61184 <= int(worker.check_output(f"stat --format=%u /proc/{pid}")) <= 65519  # of DynamicUser=


def test_the_recording_that_waited_gives_its_transcript(worker: Host, fleet: Fleet) -> None:
    wait("the transcript", lambda: "json" in fleet.results())
    assert fleet.results() == set(FORMATS)
    where = {"Bucket": fleet.outputs["InputBucket"], "Key": f"transcripts/{KEY}.txt"}
    text = fleet.client("s3").get_object(**where)["Body"].read().decode()
    assert text.split() == (SAMPLES / "short.txt").read_text().split()


def test_an_idle_instance_ends_itself_and_none_takes_its_place(worker: Host, fleet: Fleet) -> None:
    autoscaling = fleet.client("autoscaling")
    wait("the idle end", lambda: not autoscaling.describe_auto_scaling_instances()["AutoScalingInstances"])
    (group,) = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["DesiredCapacity"] == 0


def test_the_record_is_in_the_log_and_in_the_journal(worker: Host, fleet: Fleet) -> None:
    logs, group = fleet.client("logs"), fleet.outputs["JobsLog"]
    wait("the record", lambda: logs.filter_log_events(logGroupName=group)["events"])
    (event,) = logs.filter_log_events(logGroupName=group)["events"]
    record = json.loads(event["message"])
    assert (event["logStreamName"], record["outcome"]) == (fleet.instance, "done")
    journal = worker.check_output(f"sudo journalctl --unit={WORKER} --output=cat")
    assert [json.loads(line) for line in journal.splitlines() if line.startswith("{")] == [record]


def test_a_worker_that_is_never_ready_ends_its_machine(disk: Path, fleet: Fleet) -> None:
    """Auto Scaling does not know its instance, so that the machine powers itself off."""
    fleet.metadata.answers["instance-id"] = "i-0123456789abcdef0"
    settings = "PREHEAT_LANGUAGE=Elvish\nPREHEAT_READY_SECONDS=15"
    with booted(disk, "test-watchdog", keep=False, user_data=fleet.user_data(settings)) as machine:
        wait("the power-off", lambda: not answers(machine))


def answers(machine: Machine) -> bool:
    """Whether a machine answers ssh."""
    return subprocess.run([*machine.ssh(), "true"], capture_output=True, check=False).returncode == 0
