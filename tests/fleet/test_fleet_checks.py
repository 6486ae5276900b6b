"""What `make fleet` checks before it makes anything."""

import json
from typing import Any

import pytest
from moto.backends import get_backend

from factory.ec2.fleetcheck import ROLES, SPOT
from factory.ec2.fleetkey import OPERATIONS, ROLE
from factory.inputs import VERSION
from tests.ami.calls import ACCOUNT
from tests.ami.cloud import ABROAD, HOME, Cloud, Refusal
from tests.fleet.deployer import Deployer, name_ami

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

MAKING = (
    *("cloudformation:CreateChangeSet", "iam:CreateServiceLinkedRole", "s3:PUT notification"),
    *("kms:CreateGrant", "ssm:PutParameter"),
)


@pytest.fixture
def deployer(deployer: Deployer) -> Deployer:
    """A command ends where the checks do."""
    deployer.cloud.before["cloudformation:CreateChangeSet"] = lambda _: Refusal("Enough")
    return deployer


def refused(deployer: Deployer, *says: str) -> None:
    """It fails with these words, before anything was made."""
    deployer.refused("fleet", *says)
    made = {
        action for action in MAKING if any(r.access_key == "builder" for r in deployer.cloud.calls(action))
    }
    assert made == set()


def passes(deployer: Deployer) -> str:
    """All checks pass; what was said."""
    deployer.refused("fleet", "CreateChangeSet (Enough)")
    return deployer.capsys.readouterr().err


def test_all_is_well(deployer: Deployer) -> None:
    said = passes(deployer)
    assert f"account {ACCOUNT}, region us-east-1" in said and "AMI ami-" in said
    assert not deployer.cloud.calls("iam:CreateServiceLinkedRole"), "the roles are there"


@pytest.mark.parametrize(
    ("settings", "fine"),
    [
        ({}, True),
        ({"InputPrefix": ""}, False),
        ({"OutputPrefix": ""}, False),
        ({"OutputPrefix": "recordings/transcripts/"}, False),
        ({"InputPrefix": "transcripts/in/"}, False),
        ({"InputPrefix": "", "InputBucket": "mine", "OutputBucket": "mine"}, False),
        ({"InputPrefix": "", "InputBucket": "mine", "OutputBucket": "other"}, True),
        ({"InputPrefix": "", "OutputBucket": "other"}, True),
    ],
)
def test_transcripts_are_no_recordings(deployer: Deployer, settings: dict[str, str], fine: bool) -> None:
    for bucket in ("mine", "other"):
        deployer.cloud.client("s3").create_bucket(Bucket=bucket)
    deployer.settings |= settings
    if fine:
        passes(deployer)
    else:
        refused(deployer, "one is within the other", "Set them apart")


# ---- the AMI


def test_a_parameter_that_is_not_there(deployer: Deployer) -> None:
    deployer.settings["AmiParameter"] = "/preheat/none"
    refused(deployer, "there is no SSM parameter /preheat/none in us-east-1", "make ami")


def test_an_ami_that_is_gone(deployer: Deployer) -> None:
    ami = name_ami(deployer.cloud)
    deployer.cloud.client("ec2").deregister_image(ImageId=ami)
    refused(deployer, f"{ami}, which the SSM parameter /preheat/ami names, is not there to be launched")


def test_an_ami_that_is_still_being_made(deployer: Deployer) -> None:
    ami = name_ami(deployer.cloud)
    get_backend("ec2")[ACCOUNT][HOME].amis[ami].state = "pending"
    refused(deployer, f"{ami}, which the SSM parameter /preheat/ami names, is not there to be launched")


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"preheat:version": "0.0.1"}, ["is of version 0.0.1, and this is", "check out the tag v0.0.1"]),
        ({"team": "speech"}, ["is of version unknown", "make ami"]),
    ],
)
def test_an_ami_of_another_version(deployer: Deployer, tags: dict[str, str], says: list[str]) -> None:
    name_ami(deployer.cloud, tags)
    refused(deployer, *says)


def test_an_ami_of_another_account_shows_no_tags(deployer: Deployer) -> None:
    name_ami(deployer.cloud, {"team": "speech"})
    deployer.cloud.client("ssm").put_parameter(
        Name="/preheat/ami", Value="ami-0deb1a00000000012", Type="String", Overwrite=True
    )
    assert f"it is another account's: is it of version {VERSION}?" in passes(deployer)


# ---- where and on what


def test_a_type_that_no_zone_has(deployer: Deployer) -> None:
    deployer.settings["InstanceTypes"] = ["g6.xlarge", "g9.nosuch"]
    refused(deployer, "g9.nosuch is not offered in us-east-1a", "Leave it out of InstanceTypes")


def test_a_type_without_a_gpu(deployer: Deployer) -> None:
    deployer.settings["InstanceTypes"] = ["g6.xlarge", "m5.large"]
    refused(deployer, "m5.large has no GPU, and the AMI is made for one")
    name_ami(deployer.cloud, {"preheat:version": VERSION, "preheat:driver": "none"})
    passes(deployer)


def test_subnets_of_two_vpcs(deployer: Deployer) -> None:
    ec2 = deployer.cloud.client("ec2")
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    new = ec2.create_subnet(VpcId=other, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    there = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    deployer.settings["Subnets"] = [there, new]
    refused(deployer, "Subnets are in several VPCs")


def test_no_default_vpc(deployer: Deployer) -> None:
    ec2 = deployer.cloud.client("ec2")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    refused(deployer, "us-east-1 has no default VPC", "Set Subnets, or make one: aws ec2 create-default-vpc")


def test_the_subnets_and_their_vpc_reach_the_template(deployer: Deployer) -> None:
    ec2 = deployer.cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    zones = [f"{HOME}b", f"{HOME}a"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for n, zone in enumerate(zones)
    ]
    deployer.settings["Subnets"] = subnets
    passes(deployer)
    sent = deployer.cloud.calls("cloudformation:CreateChangeSet")[0].parameters
    numbers = [
        key.split(".")[2] for key in sent if key.startswith("Parameters") and key.endswith("ParameterKey")
    ]
    given = {
        sent[f"Parameters.member.{n}.ParameterKey"]: sent.get(f"Parameters.member.{n}.ParameterValue", "")
        for n in numbers
    }
    assert (given["Subnets"], given["VpcId"]) == (",".join(reversed(subnets)), vpc)


def test_no_quota_for_a_single_instance(deployer: Deployer) -> None:
    deployer.cloud.quota = 0
    refused(deployer, "may run 0 vCPUs of the family of g6.xlarge spot", "--quota-code L-3819A6DF")
    deployer.settings["OnDemand"] = True
    refused(deployer, "g6.xlarge on demand", "--quota-code L-DB2E81BA")


def test_a_quota_for_fewer_than_wanted(deployer: Deployer) -> None:
    deployer.cloud.quota = 9
    deployer.settings |= {"MaxInstances": 3, "InstanceTypes": ["g6.xlarge"]}
    assert "allows 2 of 3 instances of g6.xlarge. Ask for more" in passes(deployer)


def test_a_quota_that_cannot_be_read(deployer: Deployer) -> None:
    deployer.cloud.before["servicequotas:GetServiceQuota"] = lambda _: Refusal("AccessDeniedException")
    assert "the quota L-3819A6DF cannot be read (AccessDeniedException); going on" in passes(deployer)


# ---- buckets


def test_a_bucket_that_is_not_there(deployer: Deployer) -> None:
    deployer.settings["OutputBucket"] = "nowhere-to-be-found"
    refused(deployer, "there is no bucket nowhere-to-be-found, which OutputBucket names", "aws s3 mb")


def test_a_bucket_abroad(deployer: Deployer) -> None:
    deployer.cloud.client("s3", ABROAD).create_bucket(
        Bucket="abroad", CreateBucketConfiguration={"LocationConstraint": ABROAD}
    )
    deployer.settings["InputBucket"] = "abroad"
    refused(deployer, f"InputBucket names abroad, which is in {ABROAD}", f"Set region: {ABROAD}")


def test_a_bucket_of_others(deployer: Deployer) -> None:
    deployer.cloud.before["s3:HEAD"] = lambda _: Refusal("AccessDenied", status=403)
    deployer.settings["InputBucket"] = "others"
    refused(deployer, "may not look at the bucket others", "s3:ListBucket")


# ---- roles and keys


@pytest.mark.parametrize(("role", "service"), ROLES.items())
def test_a_role_that_the_account_lacks_is_created(deployer: Deployer, role: str, service: str) -> None:
    deployer.cloud.client("iam").delete_role(RoleName=role)
    if role == SPOT:
        deployer.settings["OnDemand"] = True
        assert role not in passes(deployer), "which is not needed then"
        del deployer.settings["OnDemand"]
    assert f"the account had no role {role} yet" in passes(deployer)
    (request,) = deployer.cloud.calls("iam:CreateServiceLinkedRole")
    assert request.parameters["AWSServiceName"] == service


def encrypted(cloud: Cloud, policy: dict[str, object] | None = None) -> str:
    """Name an AMI that is encrypted with a key of the account's own; the key."""
    given = {"Policy": json.dumps(policy)} if policy else {}
    key: str = cloud.client("kms").create_key(**given)["KeyMetadata"]["Arn"]
    name_ami(cloud, Encrypted=True, KmsKeyId=key)
    told = cloud.client("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]
    ids = "".join(
        f"<item><snapshotId>{s['SnapshotId']}</snapshotId><kmsKeyId>{key}</kmsKeyId></item>" for s in told
    )
    answer = f"<DescribeSnapshotsResponse><snapshotSet>{ids}</snapshotSet></DescribeSnapshotsResponse>"
    cloud.before["ec2:DescribeSnapshots"] = lambda _: answer  # moto's snapshots have no key
    return key


def allowing(principal: object) -> dict[str, Any]:
    """A key's policy that allows all to a principal, besides the account."""
    every = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    return {
        "Statement": [every | {"Principal": {"AWS": "arn:aws:iam::1:root"}}, every | {"Principal": principal}]
    }


def test_a_key_that_auto_scaling_may_not_use(deployer: Deployer) -> None:
    key = encrypted(deployer.cloud)
    role = ROLE.format(ACCOUNT)
    refused(
        deployer,
        f"Auto Scaling may not use {key}, the key of the encrypted AMI: no instance would ever start",
        f"aws kms create-grant --key-id {key} --region us-east-1 --grantee-principal {role} --operations",
    )
    deployer.cloud.client("kms").create_grant(KeyId=key, GranteePrincipal=role, Operations=list(OPERATIONS))
    passes(deployer)


def test_a_grant_to_somebody_else_does_not_help(deployer: Deployer) -> None:
    key = encrypted(deployer.cloud, allowing({"Service": "autoscaling.amazonaws.com"}))
    deployer.cloud.client("kms").create_grant(
        KeyId=key, GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/mine", Operations=list(OPERATIONS)
    )
    deployer.cloud.client("kms").create_grant(
        KeyId=key, GranteePrincipal=ROLE.format(ACCOUNT), Operations=["Encrypt"]
    )
    refused(deployer, "Auto Scaling may not use")


@pytest.mark.parametrize(
    "principal", [{"AWS": ROLE.format(ACCOUNT)}, {"AWS": ["x", ROLE.format(ACCOUNT)]}, {"AWS": "*"}, "*"]
)
def test_a_key_whose_policy_allows_it(deployer: Deployer, principal: object) -> None:
    encrypted(deployer.cloud, allowing(principal))
    passes(deployer)


def test_a_key_whose_policy_denies_it(deployer: Deployer) -> None:
    policy: dict[str, Any] = allowing({"AWS": ROLE.format(ACCOUNT)})
    policy["Statement"][1] |= {"Effect": "Deny", "Action": "kms:CreateGrant"}
    encrypted(deployer.cloud, policy)
    refused(deployer, "Auto Scaling may not use")


def test_a_disabled_key(deployer: Deployer) -> None:
    key = encrypted(deployer.cloud)
    deployer.cloud.client("kms").disable_key(KeyId=key.rpartition("/")[2])
    refused(deployer, f"{key}, which is disabled", "aws kms enable-key")


def test_a_key_that_cannot_be_looked_at(deployer: Deployer) -> None:
    encrypted(deployer.cloud)
    deployer.cloud.before["kms:ListGrants"] = lambda _: Refusal("AccessDeniedException")
    assert "cannot be read (ListGrants); going on" in passes(deployer)


def test_the_key_of_aws_itself(deployer: Deployer) -> None:
    key = encrypted(deployer.cloud)
    told = {"KeyId": key, "KeyManager": "AWS", "Enabled": True}
    deployer.cloud.before["kms:DescribeKey"] = lambda _: json.dumps({"KeyMetadata": told})
    passes(deployer)
