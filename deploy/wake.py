"""Wakes the fleet: sets how many instances the Auto Scaling group wants.

Runs on every upload, so that the first instance is asked for at once, and every minute (reconcile), for what
an upload alone cannot know. It never lowers the number: an instance does, when it ends itself.
deploy/fleet.yml holds a copy of this file, which `make docs` writes.
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
METRICS = ("Queue", "Instances", "Desired", "CapacityMissing", "Jobs")
REBALANCE = "AZRebalance"


def wanted(  # noqa: PLR0913, PLR0917 # six numbers
    waiting: int, in_flight: int, desired: int, instances: int, per_instance: int, most: int
) -> int:
    """How many instances to want for the recordings in the queue.

    Never fewer than desired, for the counts lag by up to a minute; nor than there are, for each lowers it as
    it ends, which AWS refuses at 0. What is in flight has an instance: alone, it needs no other.
    """
    needed = -(-(waiting + in_flight) // per_instance) if waiting else 0
    return max(desired, min(most, max(instances, needed)))


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
    waiting, in_flight = (0, 0) if upload else queue()
    # Read right before it is set: another run's number must not be undone.
    group = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]
    desired, most = int(group["DesiredCapacity"]), int(group["MaxSize"])
    if upload:  # only the first: runs of many uploads at once could undo each other
        goal = max(desired, min(most, 1))
    else:
        states = [instance["LifecycleState"] for instance in group["Instances"]]
        instances = sum(state.startswith(ALIVE) for state in states)
        goal = wanted(waiting, in_flight, desired, instances, int(os.environ["PER_INSTANCE"]), most)
        ready, jobs = states.count("InService"), 0  # a value each minute, so that no alarm lacks data
        report(waiting + in_flight, ready, goal, max(0, goal - ready), jobs)
    if goal != desired:
        autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=goal, HonorCooldown=False)
    if not upload and REBALANCE not in [each["ProcessName"] for each in group["SuspendedProcesses"]]:
        # It would launch more than desired, and templates cannot switch it off.
        autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=[REBALANCE])
    return goal


def queue() -> tuple[int, int]:
    """How many recordings wait, and how many an instance has in hand."""
    asked = boto3.client("sqs").get_queue_attributes(
        QueueUrl=os.environ["QUEUE_URL"], AttributeNames=[*COUNTS, IN_FLIGHT]
    )["Attributes"]
    return sum(int(asked[name]) for name in COUNTS), int(asked[IN_FLIGHT])


def report(*values: int) -> None:
    """Print the metrics as CloudWatch takes them from logs (embedded metric format)."""
    metrics = {
        "Namespace": "preheat",
        "Dimensions": [["Fleet"]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in METRICS],
    }
    about = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [metrics]}}
    print(json.dumps(about | {"Fleet": os.environ["FLEET"]} | dict(zip(METRICS, values, strict=True))))
