"""The builder's policy (docs/ami.md): every call that is made is allowed, and nothing else without a reason.

Every call in these tests is checked against it (cloud.py), with its conditions and the current tags.
"""

import pytest

from factory.ec2.settings import read_hcl
from factory.packer import TEMPLATE
from tests.ami.calls import FREE
from tests.ami.cloud import BUILDER, POLICY, Cloud
from tests.ami.command import Command
from tests.ami.iam import Statement, listed

# Actions that are allowed but not called in these tests, with the reason to allow them.
NOT_CALLED_HERE = {
    "ec2:DeleteSnapshot": "EC2 does it for the caller who removes an AMI",
    "ec2:DeleteVolume": "a volume outlives its instance only where the instance was never launched",
    "ec2:DescribeInstanceStatus": "current Packer waits for the instance by it",
    "ec2:GetConsoleOutput": "an instance of the proof may not answer",
    "ec2:DescribeLaunchTemplateVersions": "one may stay when Packer's plugin crashes",
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
    return {action for statement in POLICY["Statement"] for action in listed(statement["Action"])}


def statements(action: str) -> list[Statement]:
    """The statements that allow an action."""
    return [statement for statement in POLICY["Statement"] if action in listed(statement["Action"])]


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
    assert allowed() - called == NOT_CALLED_HERE.keys()


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
    """Instances, volumes, groups and AMIs: only the builder's own."""
    assert [statement.get("Condition") for statement in statements(action)] == conditions


def test_what_is_not_its_own_cannot_be_tagged_as_such() -> None:
    making, *tagged = [statement["Condition"] for statement in statements("ec2:CreateTags")]
    assert list(making["StringEquals"]) == ["ec2:CreateAction"]
    assert tagged == [OWN, MADE]


def run_tags() -> list[dict[str, str]]:
    """The run_tags of the template, with values as a run has them."""
    (blocks,) = read_hcl(TEMPLATE / "ami.pkr.hcl")["locals"]
    names = [name.strip('"') for name in blocks["run_tags"]]
    return [{"Key": name, "Value": "preheat-1" if name == "preheat:run" else "some"} for name in names]


@pytest.mark.parametrize("spot", [False, True])
def test_the_calls_of_a_current_packer_are_allowed_in_their_order(cloud: Cloud, spot: bool) -> None:
    """The calls of packer-plugin-amazon 1.8, from its source (see birth.py), with a cancelled build."""
    ec2 = cloud.client("ec2", access_key=BUILDER)
    tags = run_tags()

    def on(*kinds: str) -> list[dict[str, object]]:
        return [{"ResourceType": kind, "Tags": tags} for kind in kinds]

    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    ec2.create_key_pair(KeyName="preheat-1", TagSpecifications=on("key-pair"))
    launch = {
        "ImageId": "ami-0deb1a00000000012",
        "InstanceType": "g6.xlarge",
        "KeyName": "preheat-1",
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnet}],
    }
    launched = ("instance", "network-interface", "volume")
    if spot:
        ec2.create_launch_template(
            LaunchTemplateName="packer-fleet-launch-template-1",
            LaunchTemplateData={**launch, "TagSpecifications": on(*launched)},
        )
        template = {"LaunchTemplateName": "packer-fleet-launch-template-1", "Version": "1"}
        made = ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template}],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
        )
        instance = made["Instances"][0]["InstanceIds"][0]
    else:
        made = ec2.run_instances(**launch, MinCount=1, MaxCount=1, TagSpecifications=on(*launched))
        instance = made["Instances"][0]["InstanceId"]
    ec2.describe_instance_status(InstanceIds=[instance])
    if spot:
        ec2.create_tags(Resources=[instance], Tags=tags)
    else:
        ec2.stop_instances(InstanceIds=[instance])
    image = ec2.create_image(Name="made", InstanceId=instance, TagSpecifications=on("image", "snapshot"))[
        "ImageId"
    ]
    (described,) = ec2.describe_images(ImageIds=[image])["Images"]
    snapshot = described["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.modify_image_attribute(ImageId=image, Description={"Value": "preheat"})
    ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})
    for made_of_it in (image, snapshot):
        ec2.create_tags(Resources=[made_of_it], Tags=[{"Key": "preheat:version", "Value": "1"}])
    ec2.deregister_image(ImageId=image)
    ec2.delete_snapshot(SnapshotId=snapshot)
    ec2.terminate_instances(InstanceIds=[instance])
    if spot:
        ec2.delete_launch_template(LaunchTemplateName="packer-fleet-launch-template-1")
    ec2.delete_key_pair(KeyName="preheat-1")
