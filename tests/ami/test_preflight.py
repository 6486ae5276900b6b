"""What `make ami` refuses before anything is launched, and how it says so."""

import re
from pathlib import Path
from typing import Any

import pytest

from factory.ec2.preflight import quota_code
from tests.ami.cloud import HOME, Refusal
from tests.ami.command import Command

NOTHING_LAUNCHED = {"ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup"}


def refused(command: Command, *says: str) -> None:
    """It fails with these words, without a traceback, before anything was made."""
    command.cloud.before["ec2:CreateSecurityGroup"] = lambda _: Refusal("Enough")  # in case it is not refused
    code, printed = command.run()
    assert code == 1, printed
    assert "Traceback" not in printed
    error = printed.partition("error: ")[2]
    for words in says:
        assert words in error, printed
    assert not [action for action in NOTHING_LAUNCHED if command.cloud.calls(action)]


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"instance_type": "g6.xlarge"}, "sets instance_type, which are not variables of an AMI"),
        ({"instance_types": []}, "must name an instance type"),
        ({"instance_types": ["t2.nosuch"]}, "none of t2.nosuch is offered in us-east-1a"),
        ({"region": "Ohio"}, "must be a region's code"),
        ({"source_ami": "debian"}, "must be the id of an AMI"),
        ({"source_ami": "ami-0123456789abcdef0"}, "has no AMI ami-0123456789abcdef0 in us-east-1"),
        ({"source_ami_owner": "111122223333"}, "account 111122223333 has no AMI debian-12-amd64-*"),
        ({"share_with": ["everybody"]}, "account ids of 12 digits"),
        ({"kms_key_id": ""}, "in us-east-1 the AMI is encrypted with the default key"),
        ({"subnet_ids": ["subnet-1", "vpc-1"]}, "must contain ids of subnets"),
        ({"subnet_ids": ["subnet-0123456789abcdef0"]}, "subnet-0123456789abcdef0"),
        ({"ssh_cidrs": ["home"]}, "must contain networks"),
        ({"volume_size": 8}, "between 16 and 16384"),
        ({"volume_throughput": 2000}, "between 125 and 1000"),
        ({"volume_throughput": 1000}, "Set volume_iops = 4000, or volume_throughput = 750"),
        ({"volume_iops": 16000}, "Set volume_size = 32, or volume_iops = 12000"),
        ({"source_ami_name": "debian-12-arm64-*"}, "is for arm64; it must be for x86_64"),
        ({"deprecate_after": "90"}, 'sets deprecate_after to "90", which has the wrong type'),
        ({"encrypted": "false"}, "The default, true, shows the right type"),
        ({"tags": ["speech"]}, 'sets tags to ["speech"]'),
        ({"ssm_parameter": "preheat"}, "must be a path"),
        ({"name_prefix": "pre heat"}, "letters, digits"),
        ({"deprecate_after": 0}, "between 1 and 3650"),
        ({"builder_hours": 0}, "between 1 and 48"),
        ({"copy_regions": {HOME: ""}}, "copy_regions names us-east-1, where the AMI is built"),
    ],
)
def test_a_wrong_choice(command: Command, choices: dict[str, Any], says: str) -> None:
    command.choices |= choices
    refused(command, says)


def test_a_file_that_is_not_there(command: Command, tmp_path: Path) -> None:
    command.environment["SETTINGS"] = str(tmp_path / "none.hcl")
    refused(command, "none.hcl cannot be read", "example.pkrvars.hcl")


def test_a_file_that_is_not_hcl(command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.pkrvars.hcl").write_text('region = "us-east-1"\ntags = {\n')
    command.environment["SETTINGS"] = str(tmp_path / "broken.pkrvars.hcl")
    refused(command, "broken.pkrvars.hcl, line", "not a Packer variables file")


def test_a_file_that_holds_a_list(command: Command, tmp_path: Path) -> None:
    (tmp_path / "list.pkrvars.json").write_text('["us-east-1"]')
    command.environment["SETTINGS"] = str(tmp_path / "list.pkrvars.json")
    refused(command, "list.pkrvars.json, line", "not a Packer variables file")


def test_a_type_that_the_driver_does_not_work_on(command: Command) -> None:
    command.choices["instance_types"] = ["g6.xlarge", "t3.medium"]
    command.bake = {"image_accelerator": "cuda"}
    refused(command, "instance_types: t3.medium has no NVIDIA GPU", "Choose other instance_types")


def test_a_source_that_does_not_fit_the_volume(command: Command) -> None:
    """moto always reports the same size of a root volume."""
    command.cloud.before["ec2:DescribeImages"] = lambda _: LARGE
    refused(command, "has a root volume of 65 GiB, and volume_size is 24", "Set volume_size = 65")


LARGE = """
<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><imagesSet><item>
  <imageId>ami-0deb1a00000000012</imageId><name>debian-12-amd64-20261101-2500</name>
  <imageOwnerId>136693071363</imageOwnerId><architecture>x86_64</architecture>
  <creationDate>2026-11-01T00:00:00.000Z</creationDate><rootDeviceName>/dev/xvda</rootDeviceName>
  <blockDeviceMapping><item>
    <deviceName>/dev/xvda</deviceName><ebs><volumeSize>65</volumeSize></ebs>
  </item></blockDeviceMapping>
</item></imagesSet></DescribeImagesResponse>
""".strip()


def test_a_type_that_no_zone_has_is_said(command: Command) -> None:
    command.choices["instance_types"] = ["t2.nosuch", "g6.xlarge"]
    command.cloud.before["ec2:CreateSecurityGroup"] = lambda _: Refusal("Enough")
    _, printed = command.run()
    assert re.search(r"skipped, as not offered in .*: t2\.nosuch", printed)
    assert "CreateSecurityGroup (Enough)" in printed


@pytest.mark.parametrize(
    ("bake", "says"),
    [
        ({"model_source": "./models/x"}, "neither an absolute path nor the id of a model"),
        ({"model_source": "a/b/c"}, "neither an absolute path nor the id of a model"),
        ({"model_source": "/nowhere"}, "model_source is /nowhere, but there is no such folder"),
        ({"model_source": "nobody/nothing", "model_sha256": "5bd9"}, "sets model_sha256 to '5bd9'"),
        ({"model_source": "nobody/nothing", "model_revision": "main"}, "'main', but a branch can move"),
    ],
)
def test_a_wrong_model(command: Command, bake: dict[str, Any], says: str) -> None:
    command.bake = bake
    refused(command, says)


@pytest.mark.parametrize(("text", "says"), [("a: [", "is not YAML"), ("- a", "has no variables")])
def test_variables_that_are_none(command: Command, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "wrong.yml").write_text(text)
    command.environment["MODEL"] = str(tmp_path / "wrong.yml")
    refused(command, f"wrong.yml {says}")


def test_no_credentials(command: Command) -> None:
    command.environment |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nonexistent"}
    refused(command, "there are no AWS credentials", "aws sso login")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ExpiredToken", "credentials have expired"),
        ("InvalidClientTokenId", "does not know these credentials"),
        ("AccessDenied", "not allowed to do GetCallerIdentity"),
    ],
)
def test_credentials_that_do_not_serve(command: Command, code: str, says: str) -> None:
    command.cloud.before["sts:GetCallerIdentity"] = lambda _: Refusal(code, status=403)
    refused(command, says)


def test_an_identity_that_may_not(command: Command) -> None:
    command.cloud.before["ec2:DescribeSubnets"] = lambda _: Refusal("UnauthorizedOperation", status=403)
    refused(command, "not allowed to do DescribeSubnets", "docs/builder-policy.json")


@pytest.mark.parametrize("kind", ["g6.xlarge", "gr6.4xlarge", "g4dn.xlarge"])
def test_the_quota_is_that_of_the_family(kind: str) -> None:
    assert quota_code(kind, spot=False) == "L-DB2E81BA"


def test_a_quota_too_small(command: Command) -> None:
    command.cloud.quota = 0
    refused(command, "quota is 0 vCPUs of the family of g5.xlarge", "request-service-quota-increase")


def test_a_quota_that_cannot_be_read_is_said(command: Command) -> None:
    command.cloud.before["servicequotas:GetServiceQuota"] = lambda _: Refusal("AccessDeniedException")
    command.cloud.before["ec2:CreateSecurityGroup"] = lambda _: Refusal("Enough")
    code, printed = command.run()
    assert code == 1
    assert "the quota L-DB2E81BA for g6.xlarge cannot be read (AccessDeniedException)" in printed


def test_a_type_that_is_not_described_is_said(command: Command) -> None:
    """A new type may lack a description for a while."""
    command.cloud.before["ec2:DescribeInstanceTypes"] = lambda _: NO_TYPES
    command.cloud.before["ec2:CreateSecurityGroup"] = lambda _: Refusal("Enough")
    _, printed = command.run()
    assert "EC2 does not describe g6.xlarge" in printed
    assert "CreateSecurityGroup (Enough)" in printed


NO_TYPES = """
<DescribeInstanceTypesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <instanceTypeSet/>
</DescribeInstanceTypesResponse>
""".strip()


def test_a_network_without_subnets(command: Command) -> None:
    ec2 = command.cloud.client("ec2")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    refused(command, f"{HOME} has no default VPC", "Set subnet_ids")


def test_a_model_that_cannot_be_reached(command: Command) -> None:
    command.bake = {"model_source": "nobody/nothing", "model_revision": "1" * 40}
    command.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    refused(command, "the model nobody/nothing at 111", "cannot be reached", "HF_ENDPOINT")


def test_an_old_packer_for_the_real_ec2(command: Command, tmp_path: Path) -> None:
    old = tmp_path / "packer"
    old.write_text("#!/bin/sh\necho Packer v1.6.6\n")
    old.chmod(0o755)
    command.environment |= {"PACKER": str(old), "AWS_ENDPOINT_URL": ""}
    refused(
        command, "is Packer 1.6.6; an AMI needs 1.14.1 or newer", "HashiCorp's apt repository", "PACKER=path"
    )
    assert not command.cloud.requests


def test_a_name_that_is_taken(command: Command) -> None:
    """The name of an AMI that was made otherwise; a first run, stopped after choosing it, shows the name."""
    command.cloud.before["ec2:CreateSecurityGroup"] = lambda _: Refusal("Enough")
    _, printed = command.run()
    name = next(line.split()[2] for line in printed.splitlines() if line.startswith("checks"))
    ec2 = command.cloud.client("ec2")
    ec2.copy_image(Name=name, SourceImageId="ami-0deb1a00000000012", SourceRegion=HOME)
    command.cloud.requests.clear()
    refused(command, f"has the name {name} but was not made by `make ami`", "another name_prefix")


def test_the_address_of_this_host_is_not_to_be_found_out(command: Command) -> None:
    command.choices["ssh_cidrs"] = []
    command.environment |= {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    code, printed = command.run()
    assert code == 1
    assert "cannot get this host's public address" in printed
    assert "Set ssh_cidrs" in printed
    assert command.cloud.leftovers() == []
