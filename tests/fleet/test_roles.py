"""What the roles of deploy/fleet.yml allow, judged as IAM does by the policies that a stack gives them."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from moto.backends import get_backend

from tests.ami.iam import Policy, Question, allows
from tests.fleet.stacks import ACCOUNT, REGION, create, moto

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

HERE = f"{REGION}:{ACCOUNT}"
KEY = f"arn:aws:kms:{HERE}:key/mine"
GROUPS = f"arn:aws:autoscaling:{HERE}:autoScalingGroup:some-id:autoScalingGroupName"
THROUGH_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}


@dataclass
class Stack:
    """A fleet's stack, and the policies of its roles by their names in the template."""

    made: dict[str, str]
    policies: dict[str, Policy]
    trusted: dict[str, Any]  # who may take on each role

    def may(self, role: str, action: str, resource: str, **context: str) -> bool:
        """Whether a role may do something."""
        return allows(self.policies[role], Question(action, resource, context))

    def queue(self, name: str = "QueueUrl") -> str:
        """The ARN of a queue."""
        return f"arn:aws:sqs:{HERE}:{self.made[name].rpartition('/')[2]}"


def stack(**chosen: str) -> Stack:
    """A stack in moto."""
    found = Stack(create(**chosen), {}, {})
    roles: Any = get_backend("iam")[ACCOUNT]["aws"].roles.values()
    for role in roles:
        name = role.name.split("-")[1]
        (policy,) = role.policies.values()
        given = [each for each in policy["Statement"] if each]  # moto keeps a place for AWS::NoValue
        found.policies[name] = {"Statement": given}
        (trust,) = json.loads(role.assume_role_policy_document)["Statement"]
        found.trusted[name] = trust["Principal"]
    return found


@pytest.fixture(scope="module")
def own() -> Stack:
    """A stack whose buckets and key are the user's own."""
    with moto():
        return stack(InputBucket="calls", OutputBucket="texts", KmsKey=KEY)


@pytest.fixture(scope="module")
def plain() -> Stack:
    """A stack that is all defaults: recordings and transcripts are in the bucket that it makes."""
    with moto():
        return stack()


def test_only_ec2_and_lambda_take_on_the_roles(plain: Stack) -> None:
    assert plain.trusted == {
        "InstanceRole": {"Service": "ec2.amazonaws.com"},
        "WakeRole": {"Service": "lambda.amazonaws.com"},
    }


@pytest.mark.parametrize(
    ("action", "key", "allowed"),
    [
        ("s3:GetObject", "calls/recordings/a.wav", True),
        ("s3:GetObject", "calls/private/a.wav", False),
        ("s3:PutObject", "calls/recordings/a.wav", False),
        ("s3:PutObject", "calls/transcripts/a.wav.json", False),
        ("s3:DeleteObject", "calls/recordings/a.wav", False),
        ("s3:GetObject", "texts/transcripts/recordings/a.wav.json", True),
        ("s3:PutObject", "texts/transcripts/recordings/a.wav.json", True),
        ("s3:DeleteObject", "texts/transcripts/recordings/a.wav.json", False),
        ("s3:DeleteObject", "texts/transcripts/recordings/a.wav.error.json", True),
        ("s3:GetObject", "texts/private/a.txt", False),
        ("s3:PutObject", "texts/recordings/a.wav", False),
        ("s3:ListBucket", "calls", True),
        ("s3:ListBucket", "texts", True),
        ("s3:ListBucket", "others", False),
    ],
)
def test_an_instance_reads_recordings_and_writes_transcripts(
    action: str, key: str, allowed: bool, own: Stack
) -> None:
    assert own.may("InstanceRole", action, f"arn:aws:s3:::{key}") == allowed


def test_in_one_bucket_an_instance_writes_over_no_recording(plain: Stack) -> None:
    bucket = f"arn:aws:s3:::{plain.made['InputBucket']}"
    assert plain.may("InstanceRole", "s3:GetObject", f"{bucket}/recordings/a.wav")
    assert plain.may("InstanceRole", "s3:PutObject", f"{bucket}/transcripts/recordings/a.wav.json")
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert not plain.may("InstanceRole", action, f"{bucket}/recordings/a.wav")
        assert not plain.may("InstanceRole", action, f"{bucket}/recordings/a.wav.error.json")
    assert not plain.may("InstanceRole", "kms:Decrypt", KEY, **THROUGH_S3)


@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"])
def test_an_instance_has_its_own_queue_only(action: str, own: Stack) -> None:
    assert own.may("InstanceRole", action, own.queue())
    assert not own.may("InstanceRole", action, own.queue("DeadLettersUrl"))
    assert not own.may("InstanceRole", action, f"arn:aws:sqs:{HERE}:others")


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("InstanceRole", "autoscaling:TerminateInstanceInAutoScalingGroup"),
        ("InstanceRole", "autoscaling:CompleteLifecycleAction"),
        ("WakeRole", "autoscaling:SetDesiredCapacity"),
        ("WakeRole", "autoscaling:SuspendProcesses"),
    ],
)
def test_no_other_group_is_touched(role: str, action: str, own: Stack) -> None:
    assert own.may(role, action, f"{GROUPS}/preheat")
    assert not own.may(role, action, f"{GROUPS}/others")
    assert not own.may(role, action, f"{GROUPS}/preheat-2")


def test_the_key_is_for_objects_in_s3_alone(own: Stack) -> None:
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        assert own.may("InstanceRole", action, KEY, **THROUGH_S3)
        assert not own.may("InstanceRole", action, KEY)
        assert not own.may("InstanceRole", action, f"arn:aws:kms:{HERE}:key/others", **THROUGH_S3)


@pytest.mark.parametrize("role", ["InstanceRole", "WakeRole"])
def test_no_log_of_others_is_written(role: str, own: Stack) -> None:
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        assert not own.may(role, action, f"arn:aws:logs:{HERE}:log-group:others:log-stream:i-1")
