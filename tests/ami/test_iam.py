"""iam.py: it allows what IAM allows, and raises for what it does not model."""

from typing import Any

import pytest

from tests.ami.calls import questions
from tests.ami.iam import Policy, Question, UnknownError, allows

IMAGE = "arn:aws:ec2:us-east-1::image/ami-1"
OWN = {"aws:ResourceTag/preheat:run": "preheat-1"}


def policy(**changes: Any) -> Policy:
    """A policy of one statement."""
    return {"Statement": [{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"} | changes]}


CONDITION = {"StringLike": {"aws:ResourceTag/preheat:run": "preheat-*"}}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({}, False),
        ({"Action": "ec2:DeregisterImage"}, True),
        ({"Action": ["ec2:RunInstances", "EC2:deregisterimage"]}, True),
        ({"Action": "ec2:*Image"}, True),
        ({"Action": "ec2:Deregister?mage"}, True),
        ({"Action": "ec2:*", "Resource": "arn:aws:ec2:*::image/ami-?"}, True),
        ({"Action": "ec2:*", "Resource": "arn:aws:ec2:*:*:snapshot/*"}, False),
        ({"Action": "ec2:*", "Resource": "arn:aws:*:image/ami-1"}, False),
        ({"Action": "ec2:*", "Condition": CONDITION}, True),
        (
            {"Action": "ec2:*", "Condition": {"StringEquals": {"AWS:resourcetag/preheat:run": "preheat-1"}}},
            True,
        ),
        ({"Action": "ec2:*", "Condition": {"StringEquals": CONDITION["StringLike"]}}, False),
        ({"Action": "ec2:*", "Condition": {"StringEquals": {"aws:ResourceTag/other": "preheat-1"}}}, False),
        (
            {
                "Action": "ec2:*",
                "Condition": CONDITION | {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
            },
            False,
        ),
        ({"Action": "ec2:*", "Effect": "Deny"}, False),
    ],
)
def test_a_statement(statement: dict[str, Any], allowed: bool) -> None:
    assert allows(policy(**statement), Question("ec2:DeregisterImage", IMAGE, OWN)) is allowed


def test_what_denies_outweighs_what_allows() -> None:
    both = {"Statement": [*policy()["Statement"], *policy(Effect="Deny", Condition=CONDITION)["Statement"]]}
    assert not allows(both, Question("ec2:RunInstances", IMAGE, OWN))
    assert allows(both, Question("ec2:RunInstances", IMAGE))


@pytest.mark.parametrize(
    "statement",
    [
        {"Condition": {"StringNotEquals": {"ec2:CreateAction": "RunInstances"}}},
        {"Condition": {"ForAllValues:StringEquals": {"aws:ResourceTag/team": ["speech"]}}},
        {"Condition": {"StringEquals": {"aws:SourceIp": "192.0.2.7"}}},
        {"Condition": {"StringLike": {"aws:ResourceTag/team": "${aws:username}"}}},
        {"NotAction": "ec2:*"},
        {"Effect": "allow"},
    ],
)
def test_what_is_not_known_is_not_judged(statement: dict[str, Any]) -> None:
    with pytest.raises(UnknownError):
        allows(policy(**statement), Question("ec2:RunInstances", IMAGE))


@pytest.mark.parametrize("action", ["ec2:ModifySnapshotAttribute", "iam:CreateUser", "ssm:DeleteParameter"])
def test_a_call_that_is_not_known_is_not_judged(action: str) -> None:
    with pytest.raises(UnknownError):
        list(questions(action, "us-east-1", {"SnapshotId": "snap-1"}, lambda _region, _name: {}))


def test_a_call_is_asked_about_all_it_names_and_makes() -> None:
    """For a launch with tags: image, network and key, the new resources, and the tags on each of them."""
    parameters = {
        "ImageId": "ami-1",
        "KeyName": "preheat-1",
        "NetworkInterface.1.SubnetId": "subnet-2",
        "TagSpecification.1.ResourceType": "instance",
        "TagSpecification.1.Tag.1.Key": "made-of",
        "TagSpecification.1.Tag.1.Value": "ami-9",
    }
    asked = list(questions("ec2:RunInstances", "eu-west-1", parameters, lambda _, name: {"id": name}))
    here = "arn:aws:ec2:eu-west-1:123456789012"
    assert [(q.action, q.resource, dict(q.context)) for q in asked] == [
        ("ec2:RunInstances", "arn:aws:ec2:eu-west-1::image/ami-1", {"aws:ResourceTag/id": "ami-1"}),
        ("ec2:RunInstances", f"{here}:key-pair/preheat-1", {}),
        ("ec2:RunInstances", f"{here}:subnet/subnet-2", {"aws:ResourceTag/id": "subnet-2"}),
        ("ec2:RunInstances", f"{here}:instance/new", {"aws:RequestTag/made-of": "ami-9"}),
        ("ec2:RunInstances", f"{here}:network-interface/new", {}),
        ("ec2:RunInstances", f"{here}:volume/new", {}),
        (
            "ec2:CreateTags",
            f"{here}:instance/new",
            {"ec2:CreateAction": "RunInstances", "aws:RequestTag/made-of": "ami-9"},
        ),
    ]
