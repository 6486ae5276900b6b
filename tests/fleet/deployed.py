"""A fleet that `make fleet` makes in moto; its Lambda runs in the process of the tests."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.backends import get_backend

from tests.ami.cloud import HOME, Cloud
from tests.fleet import deployer, stacks
from tests.fleet.fleet import Fleet
from tests.fleet.stack import Stack, arn, client

NAME = "preheat"


class Deployed(Fleet):
    """The fleet. Its wake Lambda gets each event that EventBridge delivers, from a queue in its place."""

    def __init__(self, cloud: Cloud, stack: Stack, home: Path, folder: Path) -> None:
        super().__init__(cloud.url, stack, home, folder)
        for template in get_backend("ec2")[stacks.ACCOUNT][HOME].launch_templates.values():
            (disk,) = template.latest_version().data["BlockDeviceMappings"]
            disk["Ebs"]["VolumeSize"] = 16  # moto does not take the size of the AMI's
        self._wake = stacks.wake()
        (function,) = client(cloud.url, "lambda").list_functions()["Functions"]
        own = {"AWS_DEFAULT_REGION": HOME, "AWS_ENDPOINT_URL": cloud.url}
        keys = {"AWS_ACCESS_KEY_ID": "wake", "AWS_SECRET_ACCESS_KEY": "secret"}
        self._environment = function["Environment"]["Variables"] | own | keys
        self.told = self.sqs.create_queue(QueueName="in-place-of-lambda")["QueueUrl"]
        events = client(cloud.url, "events")
        (rule,) = [each["Name"] for each in events.list_rules()["Rules"] if "EventPattern" in each]
        events.remove_targets(Rule=rule, Ids=["wake"])  # moto would fail there
        events.put_targets(Rule=rule, Targets=[{"Id": "told", "Arn": arn(self.sqs, self.told)}])

    def pass_time(self) -> None:
        """Run the Lambda on each event that has come for it."""
        for message in self.sqs.receive_message(QueueUrl=self.told, MaxNumberOfMessages=10).get(
            "Messages", []
        ):
            self.sqs.delete_message(QueueUrl=self.told, ReceiptHandle=message["ReceiptHandle"])
            self.wake(json.loads(message["Body"]))
        super().pass_time()

    def wake(self, event: dict[str, Any]) -> None:
        """Run the Lambda, in its own environment."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep the credentials of others
            for name, value in self._environment.items():
                patch.setenv(name, str(value))
            self._wake.handler(event, None)


@contextmanager
def deployed(cloud: Cloud, home: Path, folder: Path) -> Iterator[Deployed]:
    """Run `make fleet`, and at the end `make fleet-remove`."""
    with pytest.MonkeyPatch.context() as patch:
        deployer.prepare(cloud, patch, folder / "my.yml")
        (folder / "my.yml").write_text(yaml.safe_dump({"region": HOME, "name": NAME, "MaxInstances": 10}))
        deployer.COMMANDS["fleet"]()
        made = stacks.outputs(client(cloud.url, "cloudformation"), NAME)
        owner: dict[str, Any] = {"aws_access_key_id": "owner", "aws_secret_access_key": "secret"}
        stacks.send_events(made["InputBucket"], endpoint_url=cloud.url, **owner)
        stack = Stack(
            name=NAME,
            bucket=made["InputBucket"],
            output=made["OutputLocation"],
            queue_url=made["QueueUrl"],
            dead_letters_url=made["DeadLettersUrl"],
            group=made["Group"],
            log=made["JobsLog"],
            settings=user_data(client(cloud.url, "ec2"), folder),
        )
        fleet = Deployed(cloud, stack, home, folder / "instances")
        yield fleet
        fleet.clear()
        deployer.COMMANDS["fleet-remove"]()
        assert cloud.denied == []


def user_data(ec2: Any, folder: Path) -> dict[str, str]:
    """The settings that an instance's user data write; they are run, in a folder in place of /etc."""
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    found = ec2.describe_launch_template_versions(LaunchTemplateId=template["LaunchTemplateId"])
    data = found["LaunchTemplateVersions"][-1]["LaunchTemplateData"]["UserData"]
    script = base64.b64decode(data).decode().replace("/etc/preheat", str(folder / "etc"))
    (folder / "bin").mkdir()
    (folder / "bin/systemctl").write_text('#!/bin/sh\nexec echo "$@"\n')
    (folder / "bin/systemctl").chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, check=True, capture_output=True, text=True
    )
    assert done.stdout == "enable --now preheat-worker.service\n"
    return dict(re.findall(r'^(\w+)="(.*)"$', (folder / "etc/worker.env").read_text(), re.MULTILINE))
