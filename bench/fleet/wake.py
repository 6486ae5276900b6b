"""The wake Lambda's own handler, with the simulated queue and group in place of AWS."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import SimpleNamespace
from typing import Any
from unittest import mock

from bench.fleet.aws import Group, Queue
from deploy import wake
from factory.ec2.template import parameters

ENVIRONMENT = {
    "GROUP": "group",
    "QUEUE_URL": "queue",
    "FLEET": "simulated",
    "PER_INSTANCE": str(parameters()["RecordingsPerInstance"]["Default"]),
}


class Wake:
    """Calls the handler as EventBridge does."""

    def __init__(self, queue: Queue, group: Group) -> None:
        self.queue, self.group = queue, group

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While this lasts the handler sees the simulation; the metrics that it prints are left out."""
        client = SimpleNamespace(
            describe_auto_scaling_groups=self.describe,
            get_queue_attributes=self.attributes,
            set_desired_capacity=lambda **asked: self.group.want(asked["DesiredCapacity"]),
        )
        with (
            mock.patch.object(wake, "boto3", SimpleNamespace(client=lambda service: client)),
            mock.patch.dict(os.environ, ENVIRONMENT),
            redirect_stdout(io.StringIO()),
        ):
            yield

    def uploaded(self) -> None:
        """React to an upload."""
        wake.handler({"source": "aws.s3"}, None)

    def reconcile(self) -> None:
        """React to the schedule."""
        wake.handler({"source": "aws.events"}, None)

    def describe(self, **_asked: Any) -> dict[str, Any]:
        """The answer of DescribeAutoScalingGroups."""
        group = {
            "DesiredCapacity": self.group.desired,
            "MaxSize": self.group.most,
            "Instances": [{"LifecycleState": state} for state in self.group.states()],
            "SuspendedProcesses": [{"ProcessName": "AZRebalance"}],
        }
        return {"AutoScalingGroups": [group]}

    def attributes(self, **_asked: Any) -> dict[str, Any]:
        """The answer of GetQueueAttributes."""
        counts = {
            "ApproximateNumberOfMessages": self.queue.visible,
            "ApproximateNumberOfMessagesDelayed": 0,
            "ApproximateNumberOfMessagesNotVisible": self.queue.in_flight,
        }
        return {"Attributes": {name: str(count) for name, count in counts.items()}}
