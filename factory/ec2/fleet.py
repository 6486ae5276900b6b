"""`make fleet` and `make fleet-remove`: the fleet of deploy/fleet.yml as a CloudFormation stack."""

import os
from typing import Any

from botocore.exceptions import ClientError

from factory.console import FactoryError, say
from factory.ec2 import queue
from factory.ec2.aws import Client, client, code, explained
from factory.ec2.fleetcheck import check
from factory.ec2.fleetsettings import FleetSettings, read_settings
from factory.ec2.stack import Stack, shown
from factory.ec2.table import table
from factory.ec2.template import TEMPLATE

POLICY, PAGE = "docs/fleet-policy.json", "docs/fleet.md"
AT_A_TIME = 50  # instances whose protection one call changes


def stack_of(settings: FleetSettings) -> Stack:
    """The fleet's stack, which may not exist yet."""
    return Stack(client("cloudformation", settings.region), settings.name, settings.region)


def fleet() -> None:
    """Create the fleet on AWS, or change it to what settings and template say; shows the changes first."""
    settings = read_settings()
    with explained(POLICY, PAGE):
        settings = check(settings)
        stack = stack_of(settings)
        changes = stack.propose(TEMPLATE.read_text(), settings.parameters, settings.tags)
        if changes is None:
            say(f"the stack {settings.name} is as it should be: no changes")
        else:
            print(shown(changes))
            say(f"change the stack {settings.name}")
            stack.execute()
        stack.look()
        if bucket := settings.parameters["InputBucket"]:
            send_events(client("s3", settings.region), bucket)
    print(table(("output", "value"), sorted(stack.outputs.items())))
    if not settings.parameters["AlarmTopic"]:
        say("nobody is told when recordings fail or cost runs on: set AlarmTopic to the ARN of an SNS topic")
    say(f"try it: aws s3 cp talk.mp3 {stack.outputs['InputLocation']}")


def send_events(s3: Client, bucket: str) -> None:
    """Let an existing bucket tell EventBridge of uploads, and all it tells anybody else as before."""
    told = s3.get_bucket_notification_configuration(Bucket=bucket)
    there: dict[str, Any] = {key: value for key, value in told.items() if key != "ResponseMetadata"}
    if "EventBridgeConfiguration" in there:
        return
    others = sum(len(value) for value in there.values())
    say(
        f"the bucket {bucket} tells EventBridge of uploads from now on; its {others} other notifications stay"
    )
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration=there | {"EventBridgeConfiguration": {}},
        SkipDestinationValidation=True,  # of what was there before
    )


def fleet_remove() -> None:
    """Delete the fleet, and name what stays. With recordings in its queue, only with REMOVE=yes."""
    settings = read_settings()
    with explained(POLICY, PAGE):
        stack = stack_of(settings)
        if not stack.look():
            say(f"{settings.region} has no stack {settings.name}")
            return
        resources = stack.resources()
        if os.environ.get("REMOVE") != "yes":
            refuse_while_busy(settings, stack)
        say(f"delete the stack {settings.name}; instances that are at work get two minutes to end")
        autoscaling = client("autoscaling", settings.region)
        stack.delete(meanwhile=lambda: unprotect(autoscaling, settings.name))
    say(f"the stack {settings.name} is deleted")
    for line in left(settings, resources):
        print(line)


def refuse_while_busy(settings: FleetSettings, stack: Stack) -> None:
    """FactoryError if the queue still holds recordings: nobody would transcribe them."""
    if "QueueUrl" not in stack.outputs:
        return
    sqs = client("sqs", settings.region)
    count, dead = (
        queue.count(sqs, stack.outputs["QueueUrl"]),
        queue.count(sqs, stack.outputs["DeadLettersUrl"]),
    )
    if count.all or dead.all:
        raise FactoryError(
            f"{count.waiting} recordings wait, {count.in_flight} are at work and {dead.all} are dead letters;"
            " no transcript would be made of them",
            "Wait until make fleet-status shows none, or run: make fleet-remove REMOVE=yes",
        )


def unprotect(autoscaling: Client, group: str) -> None:
    """Let Auto Scaling end the group's instances, before CloudFormation deletes it."""
    found = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    ids = [
        instance["InstanceId"]
        for item in found
        for instance in item["Instances"]
        if instance["ProtectedFromScaleIn"] and instance["LifecycleState"] == "InService"
    ]
    for first in range(0, len(ids), AT_A_TIME):
        try:
            autoscaling.set_instance_protection(
                AutoScalingGroupName=group,
                InstanceIds=ids[first : first + AT_A_TIME],
                ProtectedFromScaleIn=False,
            )
        except ClientError as error:  # one has ended meanwhile; the next look has the others
            if code(error) != "ValidationError":
                raise


def left(settings: FleetSettings, resources: dict[str, str]) -> list[str]:
    """What the fleet leaves behind, and the command that would remove a bucket that it has made."""
    chosen = settings.parameters
    results = chosen["OutputBucket"]
    if bucket := resources.get("Recordings"):
        lines = [
            f"stays: s3://{bucket} with all recordings{'' if results else ' and transcripts'}",
            f"  aws s3 rb s3://{bucket} --force",
        ]
    else:
        bucket = chosen["InputBucket"]
        told = "it still sends its events to EventBridge, which drops them"
        lines = [f"stays: s3://{bucket}, as you made it; {told}"]
    if results not in ("", bucket):
        lines.append(f"stays: s3://{results}/{chosen['OutputPrefix']} with all transcripts")
    return lines
