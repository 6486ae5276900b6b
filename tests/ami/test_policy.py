"""The builder's policy, of which README speaks: what is called is allowed, and nothing without a reason."""

import json
from typing import Any

import pytest
from conftest import Command

from factory.console import ROOT

FREE = {"sts:GetCallerIdentity"}  # needs no permission

# What is allowed and not called here, with the reason to allow it.
NOT_CALLED_HERE = {
    "ec2:DeleteSnapshot": "EC2 does it for the caller who removes an AMI",
    "ec2:DeleteVolume": "a volume outlives its instance only where the instance was never launched",
    "ec2:DescribeInstanceStatus": "current Packer waits for the instance by it",
    "ec2:DescribeLaunchTemplateVersions": "one may stay when Packer's plugin crashes",
    "ec2:DescribeRegions": "Packer asks it of the real EC2",
    "ec2:DescribeSnapshots": "current Packer waits for the snapshot by it",
    "iam:CreateServiceLinkedRole": "EC2 does it for the first spot instance of an account",
    "kms:CreateGrant": "EC2 does it for the caller, as the other actions of kms",
    "kms:Decrypt": "",
    "kms:DescribeKey": "",
    "kms:GenerateDataKeyWithoutPlaintext": "",
    "kms:ReEncryptFrom": "",
    "kms:ReEncryptTo": "",
}


POLICY = json.loads((ROOT / "docs/builder-policy.json").read_text())


def actions(statement: dict[str, Any]) -> list[str]:
    """The actions that a statement of the policy allows; none has a wildcard."""
    listed = statement["Action"]
    return listed if isinstance(listed, list) else [listed]


def allowed() -> set[str]:
    """Every action of the policy."""
    return {action for statement in POLICY["Statement"] for action in actions(statement)}


def statements(action: str) -> list[dict[str, Any]]:
    """The statements that allow an action."""
    return [statement for statement in POLICY["Statement"] if action in actions(statement)]


def test_the_policy_allows_what_is_called_and_no_more(quick: Command) -> None:
    """A build on demand, one on a spot instance, and the removal of the first."""
    for spot in (False, True):
        quick.choices |= {"spot": spot, "name_prefix": f"spot-{spot}"}
        code, printed = quick.run()
        assert code == 0, printed
    quick.environment["REMOVE"] = "yes"
    code, printed = quick.run("ami-clean")
    assert code == 0, printed
    called = {request.action for request in quick.cloud.requests} - FREE
    assert called - allowed() == set()
    assert allowed() - called <= NOT_CALLED_HERE.keys()


OWN = {"StringLike": {"aws:ResourceTag/preheat:run": "preheat-*"}}
MADE = {"StringLike": {"aws:ResourceTag/preheat:inputs": "*"}}


@pytest.mark.parametrize(
    ("action", "conditions"),
    [
        ("ec2:TerminateInstances", [OWN]),
        ("ec2:StopInstances", [OWN]),
        ("ec2:DeleteVolume", [OWN]),
        ("ec2:DeleteSecurityGroup", [OWN]),
        ("ec2:AuthorizeSecurityGroupIngress", [OWN]),
        ("ec2:DeregisterImage", [MADE]),
        ("ec2:DeleteSnapshot", [MADE]),
        ("ec2:ModifyImageAttribute", [MADE]),
    ],
)
def test_what_can_be_narrowed_is(action: str, conditions: list[object]) -> None:
    """Instances, volumes, groups, AMIs: none but its own."""
    assert [statement.get("Condition") for statement in statements(action)] == conditions


def test_what_is_not_its_own_cannot_be_tagged_as_such() -> None:
    making, *tagged = [statement["Condition"] for statement in statements("ec2:CreateTags")]
    assert list(making["StringEquals"]) == ["ec2:CreateAction"]
    assert tagged == [OWN, MADE]
