"""What a fleet's stack makes, and how the tests reach it."""

import json
from dataclasses import dataclass
from typing import Any

import boto3

from tests.fleet.instance import AMI, REGION


def client(server: str, service: str) -> Any:
    """A client of the fleet's owner, past the gateways; without a server, moto answers in this process."""
    keys = {"aws_access_key_id": "owner", "aws_secret_access_key": "secret"}
    return boto3.session.Session(region_name=REGION, **keys).client(service, endpoint_url=server or None)


@dataclass(frozen=True)
class Stack:
    """The names that pass between the parts of a fleet."""

    name: str
    bucket: str
    output: str  # s3://bucket/prefix/
    queue_url: str
    dead_letters_url: str
    group: str
    log: str
    settings: dict[str, str]  # what user data write into worker.env


def settings(stack: str, queue_url: str, output: str, log: str) -> dict[str, str]:
    """Those of a fleet that is all defaults."""
    return {
        "PREHEAT_FLEET": stack,
        "PREHEAT_QUEUE_URL": queue_url,
        "PREHEAT_OUTPUT": output,
        "PREHEAT_LOG_GROUP": log,
        "PREHEAT_GROUP": stack,
        "PREHEAT_HOOK": f"{stack}-terminating",
        "AWS_REGION": REGION,
    }


def made(server: str, name: str) -> Stack:
    """A stack made by hand."""
    s3, sqs = client(server, "s3"), client(server, "sqs")
    bucket, log = f"{name}-recordings", f"/preheat/{name}"
    s3.create_bucket(Bucket=bucket)
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    redrive = {"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 5}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "120"}
    queue = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    client(server, "logs").create_log_group(logGroupName=log)
    data = {"ImageId": AMI, "InstanceType": "g6.xlarge"}
    client(server, "ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    client(server, "autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
        MinSize=0,
        MaxSize=100,
        DesiredCapacity=0,
        AvailabilityZones=[f"{REGION}a"],
        NewInstancesProtectedFromScaleIn=True,
    )
    events = client(server, "events")
    detail = {"bucket": {"name": [bucket]}, "object": {"key": [{"prefix": "recordings/"}]}}
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "Queue", "Arn": arn(sqs, queue)}])
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    output = f"s3://{bucket}/transcripts/"
    return Stack(name, bucket, output, queue, dead, name, log, settings(name, queue, output, log))


def arn(sqs: Any, url: str) -> str:
    """The ARN of a queue."""
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])
