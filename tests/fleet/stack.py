"""What a fleet's stack makes, and how the tests reach it."""

import json
from dataclasses import dataclass
from typing import Any

import boto3

from tests.fleet.instance import AMI, REGION

NAME = "preheat"


def client(server: str, service: str) -> Any:
    """A client of the fleet's owner, past the gateways."""
    keys = {"aws_access_key_id": "owner", "aws_secret_access_key": "secret"}
    return boto3.session.Session(region_name=REGION, **keys).client(service, endpoint_url=server)


@dataclass(frozen=True)
class Stack:
    """The names that passes between the parts of a fleet."""

    bucket: str
    output: str  # s3://bucket/prefix/
    queue_url: str
    dead_letters_url: str
    group: str
    hook: str
    log: str
    rule: str

    @property
    def settings(self) -> dict[str, str]:
        """What user data write into worker.env."""
        return {
            "PREHEAT_FLEET": NAME,
            "PREHEAT_QUEUE_URL": self.queue_url,
            "PREHEAT_OUTPUT": self.output,
            "PREHEAT_LOG_GROUP": self.log,
            "PREHEAT_GROUP": self.group,
            "PREHEAT_HOOK": self.hook,
            "PREHEAT_IDLE_SECONDS": "300",
            "PREHEAT_READY_SECONDS": "900",
            "PREHEAT_LANGUAGE": "",
            "PREHEAT_TASK": "",
            "PREHEAT_FORMATS": "",
            "PREHEAT_PROMPT": "",
        }


def made(server: str) -> Stack:
    """A stack made by hand."""
    s3, sqs = client(server, "s3"), client(server, "sqs")
    s3.create_bucket(Bucket="recordings")
    dead = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": 5}
    attributes = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "120"}
    queue = sqs.create_queue(QueueName="queue", Attributes=attributes)["QueueUrl"]
    client(server, "logs").create_log_group(logGroupName="/preheat/jobs")
    launch = {"LaunchTemplateName": NAME, "LaunchTemplateData": {"ImageId": AMI, "InstanceType": "g6.xlarge"}}
    client(server, "ec2").create_launch_template(**launch)
    client(server, "autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="group",
        LaunchTemplate={"LaunchTemplateName": NAME, "Version": "$Latest"},
        MinSize=0,
        MaxSize=4,
        DesiredCapacity=0,
        AvailabilityZones=[f"{REGION}a"],
        NewInstancesProtectedFromScaleIn=True,
    )
    events = client(server, "events")
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"]}
    events.put_rule(Name="uploads", EventPattern=json.dumps(pattern))
    where = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_targets(Rule="uploads", Targets=[{"Id": "Queue", "Arn": where}])
    return Stack(
        "recordings", "s3://recordings/transcripts/", queue, dead, "group", "hook", "/preheat/jobs", "uploads"
    )
