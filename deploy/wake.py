"""Wakes the fleet: sets how many instances the Auto Scaling group wants.

Runs on every upload, so that the first instance is asked for at once, and every minute (reconcile), for what
an upload alone cannot know. It never ends an instance: each is protected from scale-in, and ends itself when
it is idle. deploy/fleet.yml holds a copy of this file, which `make docs` writes.
"""

import json
import os
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError

ALIVE = ("Pending", "InService")
COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
IN_FLIGHT = "ApproximateNumberOfMessagesNotVisible"
METRICS = ("Queue", "Instances", "Desired", "CapacityMissing")


def wanted(  # noqa: PLR0913, PLR0917 # six numbers
    waiting: int, in_flight: int, desired: int, instances: int, per_instance: int, most: int
) -> int:
    """How many instances to want for the recordings in the queue.

    Never fewer than desired, but for an empty queue: then no more than there are, which takes back requests
    that EC2 could not fill. What is in flight has an instance: alone, it needs no other.
    """
    if not waiting:
        return desired if in_flight else min(desired, instances)
    return max(desired, min(most, -(-(waiting + in_flight) // per_instance)))


def handler(event: dict[str, Any], context: object) -> int | None:
    """React to an upload or to the schedule; returns how many instances are wanted now, None if throttled."""
    upload = event.get("source") == "aws.s3"
    try:
        return wake(upload)
    except ClientError as error:
        if upload and "Throttl" in error.response["Error"]["Code"]:
            return None  # one of thousands of uploads at a time: others have woken the fleet
        raise


def wake(upload: bool) -> int:
    """Set how many instances are wanted, and return it."""
    autoscaling = boto3.client("autoscaling")
    name = os.environ["GROUP"]
    group = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]
    desired, most = int(group["DesiredCapacity"]), int(group["MaxSize"])
    if upload:  # only the first: runs of many uploads at once could undo each other
        goal = max(desired, min(most, 1))
    else:
        waiting, in_flight = queue()
        states = [instance["LifecycleState"] for instance in group["Instances"]]
        instances = sum(state.startswith(ALIVE) for state in states)
        goal = wanted(waiting, in_flight, desired, instances, int(os.environ["PER_INSTANCE"]), most)
        ready = states.count("InService")
        report(waiting + in_flight, ready, goal, max(0, goal - ready))
    if goal != desired:
        autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=goal, HonorCooldown=False)
    return goal


def queue() -> tuple[int, int]:
    """How many recordings wait, and how many an instance has in hand."""
    asked = boto3.client("sqs").get_queue_attributes(
        QueueUrl=os.environ["QUEUE_URL"], AttributeNames=[*COUNTS, IN_FLIGHT]
    )["Attributes"]
    return sum(int(asked[name]) for name in COUNTS), int(asked[IN_FLIGHT])


def report(*values: int) -> None:
    """Print the metrics, as a line that CloudWatch takes them from (embedded metric format)."""
    metrics = {
        "Namespace": "preheat",
        "Dimensions": [["Fleet"]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in METRICS],
    }
    about = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [metrics]}}
    print(json.dumps(about | {"Fleet": os.environ["FLEET"]} | dict(zip(METRICS, values, strict=True))))
