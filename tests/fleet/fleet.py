"""A fleet in moto, with real workers as its instances."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.backends import get_backend

from tests.fleet.instance import PATIENCE, REGION, Instance, wait
from tests.fleet.stack import Stack, client

ACCOUNT = "123456789012"
FORMATS = {"txt", "srt", "vtt", "tsv", "json"}


class Fleet:
    """A fleet. Stands for Lambda and Auto Scaling, which moto does not run; see `pass_time`."""

    def __init__(self, server: str, stack: Stack, home: Path, folder: Path) -> None:
        """`folder`: for the disks of instances."""
        self.stack, self.instances = stack, dict[str, Instance]()
        self.past: list[Instance] = []  # instances that were ended
        self.s3, self.sqs = client(server, "s3"), client(server, "sqs")
        self.autoscaling, self.logs = client(server, "autoscaling"), client(server, "logs")
        self.server, self._home, self._folder = server, home, folder

    # What users do.

    def upload(self, key: str, content: bytes, **metadata: str) -> None:
        """Put a recording into the fleet's bucket."""
        self.s3.put_object(Bucket=self.stack.bucket, Key=key, Body=content, Metadata=metadata)

    def results(self, key: str) -> dict[str, str]:
        """The results of a key by their suffixes: txt, json and so on, and error.json."""
        bucket, _, prefix = self.stack.output.removeprefix("s3://").partition("/")
        listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}{key}.").get("Contents", [])
        found = {}
        for each in listed:
            name = each["Key"].removeprefix(f"{prefix}{key}.")
            if name in FORMATS | {"error.json"}:
                found[name] = self.s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read().decode()
        return found

    def transcript(self, key: str, seconds: float = PATIENCE) -> dict[str, str]:
        """The results of a key, once they are there, and whole."""
        self.wait(f"the transcript of {key}", lambda: self.exists(f"{key}.json"), seconds)
        results = self.results(key)
        assert set(results) == FORMATS
        assert json.loads(results["json"])["text"].split() == results["txt"].split()
        return results

    def noted(self, name: str) -> dict[str, Any]:
        """What the metadata of a JSON note on what it was made from."""
        bucket, _, prefix = self.stack.output.removeprefix("s3://").partition("/")
        found = self.s3.head_object(Bucket=bucket, Key=prefix + name)["Metadata"]
        return dict(json.loads(found["transcribe"]))

    def exists(self, name: str) -> bool:
        """Whether there is an object below the output location."""
        bucket, _, prefix = self.stack.output.removeprefix("s3://").partition("/")
        listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix + name, MaxKeys=1)
        return any(each["Key"] == prefix + name for each in listed.get("Contents", []))

    def error(self, key: str) -> dict[str, Any]:
        """What is in the error file of a key, once it is there."""
        self.wait(f"the error file of {key}", lambda: self.exists(f"{key}.error.json"))
        return dict(json.loads(self.results(key)["error.json"]))

    def writes(self, name: str) -> int:
        """How often the fleet has written an object below the output location."""
        where = self.stack.output.removeprefix("s3://") + name
        return sum(instance.gateway.written[where] for instance in [*self.past, *self.instances.values()])

    def logged(self, identity: str) -> list[dict[str, Any]]:
        """The records of an instance in CloudWatch."""
        where = {"logGroupName": self.stack.log, "logStreamName": identity}
        try:
            events = self.logs.get_log_events(**where)["events"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [json.loads(event["message"]) for event in events]

    # What SQS does.

    def send(self, body: object) -> None:
        """Put a message into the queue."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.sqs.send_message(QueueUrl=self.stack.queue_url, MessageBody=text)

    def waiting(self) -> tuple[int, int]:
        """The messages in the queue: visible, and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.stack.queue_url, AttributeNames=names)
        return int(found["Attributes"][names[0]]), int(found["Attributes"][names[1]])

    def dead(self) -> int:
        """The messages in the dead letter queue."""
        names = ["ApproximateNumberOfMessages"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.stack.dead_letters_url, AttributeNames=names)
        return int(found["Attributes"][names[0]])

    def messages(self) -> list[Any]:
        """The messages in the queue, to look at."""
        return list(queued(self.stack.queue_url))

    def expire(self, *instances: Instance) -> None:
        """Let the visibility timeout pass, for all messages in flight or those that some instances have."""
        theirs = {each for instance in instances for each in instance.gateway.received}
        for message in self.messages():
            if not instances or message.id in theirs:
                message.visible_at = 0.0

    def drained(self, seconds: float = PATIENCE) -> None:
        """Wait until no message is left."""
        self.wait("an empty queue", lambda: self.waiting() == (0, 0), seconds)

    # What Auto Scaling and Lambda do.

    def launch(self, expire: float = 6 * 3600, **settings: str) -> Instance:
        """Ask for an instance more, and start its worker.

        `expire`: seconds until its credentials do; `settings` add to the environment.
        """
        group = self._group()
        known = {each["InstanceId"] for each in group["Instances"]}
        self.autoscaling.set_desired_capacity(
            AutoScalingGroupName=self.stack.group, DesiredCapacity=group["DesiredCapacity"] + 1
        )
        (identity,) = {each["InstanceId"] for each in self._group()["Instances"]} - known
        return self._boot(identity, expire, settings)

    def desired(self) -> int:
        """How many instances the group wants."""
        return int(self._group()["DesiredCapacity"])

    def pass_time(self) -> None:
        """Start the workers of new instances, and shut down those whose instances were ended."""
        there = {each["InstanceId"] for each in self._group()["Instances"]}
        for identity in there - self.instances.keys() - {each.identity for each in self.past}:
            self._boot(identity, 6 * 3600, {})
        for identity in self.instances.keys() - there:
            instance = self.instances.pop(identity)
            self.past.append(instance)
            instance.metadata.answers["autoscaling/target-lifecycle-state"] = "Terminated"
            if instance.runs:
                instance.shut_down()

    def wait(self, for_what: str, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Let time pass until a condition holds; fail the test if it does not."""

        def later() -> object:
            self.pass_time()
            return condition()

        wait(for_what, later, seconds)

    def clear(self) -> None:
        """End all instances, and empty the queues."""
        for each in self._group()["Instances"]:
            self.autoscaling.terminate_instance_in_auto_scaling_group(
                InstanceId=each["InstanceId"], ShouldDecrementDesiredCapacity=True
            )
        for instance in [*self.past, *self.instances.values()]:
            instance.close()
        self.past.clear()
        self.instances.clear()
        for url in (self.stack.queue_url, self.stack.dead_letters_url):
            queued(url).clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _boot(self, identity: str, expire: float, settings: dict[str, str]) -> Instance:
        settings = self.stack.settings | settings
        instance = Instance(self.server, self._home, identity, self._folder / identity, settings)
        instance.metadata.grant("first", expire)
        self.instances[identity] = instance
        instance.start()
        return instance

    def _group(self) -> dict[str, Any]:
        names = [self.stack.group]
        found = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=names)
        return dict(found["AutoScalingGroups"][0])


def queued(url: str) -> list[Any]:
    """The messages of a queue, moto's own objects."""
    queue = get_backend("sqs")[ACCOUNT][REGION].get_queue(url.rpartition("/")[2])
    found: list[Any] = queue._messages
    return found
