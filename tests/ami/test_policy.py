"""The builder's policy, of which README speaks: what is called is allowed, and nothing without a reason."""

import json

from conftest import Command

from factory.console import ROOT

FREE = {"sts:GetCallerIdentity"}  # needs no permission

# What is allowed and not called here, with the reason to allow it.
NOT_CALLED_HERE = {
    "ec2:DeleteVolume": "a volume outlives its instance only where the instance was never launched",
    "ec2:DescribeInstanceStatus": "current Packer waits for the instance by it",
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


def allowed() -> set[str]:
    """Every action of the policy; none has a wildcard."""
    statements = json.loads((ROOT / "docs/builder-policy.json").read_text())["Statement"]
    lists = [s["Action"] if isinstance(s["Action"], list) else [s["Action"]] for s in statements]
    return {action for actions in lists for action in actions}


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


def test_what_can_be_narrowed_is() -> None:
    """Instances, volumes, groups and keys: none but its own."""
    statements = json.loads((ROOT / "docs/builder-policy.json").read_text())["Statement"]
    for statement in statements:
        for action in statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]:
            if action.startswith(("ec2:Terminate", "ec2:Stop", "ec2:DeleteVolume", "ec2:DeleteSecurity")):
                assert statement["Condition"] == {"StringLike": {"aws:ResourceTag/preheat:run": "preheat-*"}}
