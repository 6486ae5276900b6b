"""`make ami` from nothing to an AMI in two regions: what was asked of AWS, and what is there at the end."""

import json
import re
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factory import packer
from factory.console import BUILD
from factory.ec2.deadline import PROOF_UNIT
from factory.inputs import VERSION
from tests.ami.cloud import ABROAD, HOME, Cloud
from tests.ami.command import KEYS, PARTNER, Command, instance, proved

# The AMI's stand-in, and one file of the tests that tests/image runs on it anyway.
PROVED = """
launch.address = lambda instance, public: ("127.0.0.1", {port})
proof.TESTS = [Path("tests/image/test_system.py")]
"""
MODERN = packer.version(packer.packer()) >= packer.PLUGIN_BLOCKS_SINCE


@dataclass
class Built:
    """A run of `make ami` that went well."""

    command: Command
    printed: str
    ami: dict[str, Any]
    copy: dict[str, Any]

    @property
    def cloud(self) -> Cloud:
        return self.command.cloud

    def file(self, kind: str) -> Any:
        """The manifest or the image.json that lies beside."""
        return json.loads((BUILD / f"ami/{self.ami['Name']}.{kind}.json").read_text())


@pytest.fixture(scope="module")
def built(server: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The real play on the instance, once for all tests of this module."""
    server.reset()
    command = Command(server, tmp_path_factory.mktemp("ami"), tmp_path_factory.mktemp("t"))
    command.choices["verify"] = True
    with instance(command), proved(server) as machine:
        command.replaced = PROVED.format(port=machine.port)
        code, printed = command.run()
    assert code == 0, printed
    assert server.denied == []
    (ami,), (copy,) = server.own_amis(), server.own_amis(ABROAD)
    yield Built(command, printed, ami, copy)


def tags(image: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in image["Tags"]}


def test_the_name_says_version_and_inputs(built: Built) -> None:
    inputs = tags(built.ami)["preheat:inputs"]
    assert built.ami["Name"] == built.copy["Name"] == f"preheat-{VERSION}-{inputs[:12]}"


def test_tags_say_what_is_in_it(built: Built) -> None:
    record = built.file("image")
    for image, region in ((built.ami, HOME), (built.copy, ABROAD)):
        snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        described = built.cloud.client("ec2", region).describe_snapshots(SnapshotIds=[snapshot])
        assert tags(described["Snapshots"][0]).items() >= tags(image).items()
        assert (
            tags(image).items()
            >= {
                "team": "speech",
                "Name": image["Name"],
                "preheat:version": VERSION,
                "preheat:parameter": "/preheat/ami",
                "preheat:git-commit": record["git_commit"],
                "preheat:source-ami": "ami-0deb1a00000000012",
                "preheat:source-ami-name": "debian-12-amd64-20261101-2500",
                "preheat:driver": "none",
                "preheat:gpu": "none",
                "preheat:cuda": record["cuda"],
                "preheat:torch": record["torch"],
                "preheat:kernel": record["kernel"],
                "preheat:model": record["model"]["name"],
                "preheat:model-revision": record["model"]["sha256"],
                "preheat:state-sha256": record["state"]["sha256"],
            }.items()
        )


def test_manifest_and_record_agree_with_the_ami(built: Built) -> None:
    (made,) = built.file("manifest")["builds"]
    assert made["artifact_id"] == f"{HOME}:{built.ami['ImageId']}"
    record = built.file("image")
    assert made["custom_data"] == {"version": record["version"], "git_commit": record["git_commit"]}
    assert record["source_image"] == {
        "id": "ami-0deb1a00000000012",
        "name": "debian-12-amd64-20261101-2500",
    }
    assert record["verification"]["text"]


def test_the_builder_is_as_chosen(built: Built) -> None:
    request, _ = built.cloud.calls("ec2:RunInstances")
    assert request.parameters["InstanceType"] == "g6.xlarge"
    # Left out of the template for an old Packer (test_template.py).
    assert request.parameters.get("MetadataOptions.HttpTokens") == ("required" if MODERN else None)
    assert request.parameters.get("MetadataOptions.HttpPutResponseHopLimit") == ("1" if MODERN else None)
    disk = {
        key.removeprefix("BlockDeviceMapping.1."): value
        for key, value in request.parameters.items()
        if key.startswith("BlockDeviceMapping.1.")
    }
    assert disk == {
        "DeviceName": "/dev/xvda",
        "Ebs.DeleteOnTermination": "true",
        "Ebs.Encrypted": "true",
        "Ebs.Iops": "3000",
        "Ebs.KmsKeyId": KEYS[HOME],
        "Ebs.Throughput": "500",
        "Ebs.VolumeSize": "24",
        "Ebs.VolumeType": "gp3",
    }


def test_the_builder_ends_itself_at_its_deadline(built: Built) -> None:
    request, proof = built.cloud.calls("ec2:RunInstances")
    for launched in (request, proof):
        assert launched.parameters["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert PROOF_UNIT in b64decode(proof.parameters["UserData"]).decode()
    text = b64decode(request.parameters["UserData"]).decode()
    date = datetime.strptime(text.partition("power off at ")[2][:23], "%Y-%m-%d %H:%M:%S %Z")
    assert timedelta(hours=5) < date.replace(tzinfo=UTC) - datetime.now(UTC) <= timedelta(hours=6)


def test_only_the_caller_reaches_the_builder_and_the_instance_of_the_proof(built: Built) -> None:
    requests = built.cloud.calls("ec2:AuthorizeSecurityGroupIngress")
    for request, launched in zip(requests, built.cloud.calls("ec2:RunInstances"), strict=True):
        rules = {key: value for key, value in request.parameters.items() if key.startswith("IpPermissions")}
        assert rules == {
            "IpPermissions.1.IpProtocol": "tcp",
            "IpPermissions.1.FromPort": "22",
            "IpPermissions.1.ToPort": "22",
            "IpPermissions.1.IpRanges.1.CidrIp": "192.0.2.7/32",
        }
        assert request.parameters["GroupId"] in launched.parameters.values()


def test_the_key_is_temporary(built: Built) -> None:
    made, for_the_proof = built.cloud.calls("ec2:CreateKeyPair")
    assert made.parameters["KeyName"] != for_the_proof.parameters["KeyName"]
    # The template asks for it in any case; an old Packer takes what EC2 gives, an RSA key.
    assert made.parameters.get("KeyType") == ("ed25519" if MODERN else None)
    removed = [request.parameters["KeyName"] for request in built.cloud.calls("ec2:DeleteKeyPair")]
    assert {made.parameters["KeyName"], for_the_proof.parameters["KeyName"]} <= set(removed)


def test_the_copy_is_encrypted_with_the_key_of_its_region(built: Built) -> None:
    (request,) = built.cloud.calls("ec2:CopyImage")
    assert request.region == ABROAD
    assert request.parameters["Encrypted"] == "true"
    assert request.parameters["KmsKeyId"] == KEYS[ABROAD]
    assert request.parameters["SourceImageId"] == built.ami["ImageId"]
    # Tagged on creation, so that an interruption cannot leave an unknown one; moto sets the tags only later.
    asked = {value for key, value in request.parameters.items() if key.startswith("TagSpecification")}
    assert asked >= {"image", "snapshot", *tags(built.ami).values()}


def test_only_the_named_accounts_may_launch_it(built: Built) -> None:
    for image, region in ((built.ami, HOME), (built.copy, ABROAD)):
        asked = built.cloud.client("ec2", region).describe_image_attribute(
            ImageId=image["ImageId"], Attribute="launchPermission"
        )
        assert asked["LaunchPermissions"] == [{"UserId": PARTNER}]


def test_imdsv2_and_deprecation_are_set_everywhere(built: Built) -> None:
    """Checked in the requests: moto supports neither."""
    images = {(HOME, built.ami["ImageId"]), (ABROAD, built.copy["ImageId"])}
    imds = [r for r in built.cloud.calls("ec2:ModifyImageAttribute") if "ImdsSupport.Value" in r.parameters]
    assert {(r.region, r.parameters["ImageId"]) for r in imds} == images
    assert {r.parameters["ImdsSupport.Value"] for r in imds} == {"v2.0"}
    deprecated = built.cloud.calls("ec2:EnableImageDeprecation")
    assert {(r.region, r.parameters["ImageId"]) for r in deprecated} == images
    assert len({r.parameters["DeprecateAt"] for r in deprecated}) == 1


def test_the_parameter_names_it_in_each_region(built: Built) -> None:
    for image, region in ((built.ami, HOME), (built.copy, ABROAD)):
        parameter = built.cloud.client("ssm", region).get_parameter(Name="/preheat/ami")["Parameter"]
        assert parameter["Value"] == image["ImageId"]


def test_nothing_is_left(built: Built) -> None:
    assert built.cloud.leftovers() == []
    assert not list((BUILD / "run/ami").glob("*.json"))
    assert list(built.command.temporary.iterdir()) == []


def test_the_table_says_what_was_made_and_where(built: Built) -> None:
    table = [line.split() for line in built.printed.splitlines() if line.endswith(" s") and "[" not in line]
    assert ["image", HOME, built.ami["ImageId"]] in [row[:3] for row in table]
    assert ["copy", ABROAD, built.copy["ImageId"]] in [row[:3] for row in table]


def test_the_ami_did_its_work_before_anyone_got_it(built: Built) -> None:
    """On an instance of the builder's type; the measurements are in the table and in tags in each region."""
    order = [request.action for request in built.cloud.requests]
    proof = order.index("ec2:RunInstances", order.index("ec2:CreateImage"))
    assert order.index("ec2:CopyImage") > proof
    assert order.index("ssm:PutParameter") > proof
    launched = built.cloud.requests[proof].parameters
    assert (launched["ImageId"], launched["InstanceType"]) == (built.ami["ImageId"], "g6.xlarge")
    rows = {
        line.split("  ")[0]: line.split()[-2] for line in built.printed.splitlines() if line.endswith(" s")
    }
    for image in (built.ami, built.copy):
        marks = tags(image)
        assert marks["preheat:verified"].endswith(" on g6.xlarge")
        assert marks["preheat:first-words"] == f"{rows['first words']} s"
        assert marks["preheat:words-again"] == f"{rows['words again']} s"
        assert float(marks["preheat:launch-to-ssh"].removesuffix(" s")) > 0
    assert re.search(r"tests/image +g6.xlarge +\d+ passed", built.printed)


def test_again_it_finds_everything_done(built: Built) -> None:
    """Except what the changed settings ask for."""
    before = len(built.cloud.requests)
    built.command.choices["tags"] = {"team": "text"}
    code, printed = built.command.run()
    assert code == 0, printed
    assert f"{built.ami['Name']} already exists" in printed
    done = {request.action for request in built.cloud.requests[before:]}
    assert not done & {"ec2:RunInstances", "ec2:CopyImage", "ssm:PutParameter", "ec2:CreateKeyPair"}
    for region in (HOME, ABROAD):
        (image,) = built.cloud.own_amis(region)
        assert tags(image)["team"] == "text"


def test_old_amis_are_listed_and_removed_when_told(built: Built) -> None:
    """A later AMI for the same parameter becomes the current one; the first is then old, and no other."""
    ec2 = built.cloud.client("ec2")

    def another(name: str, parameter: str) -> str:
        made: str = ec2.copy_image(Name=name, SourceImageId=built.ami["ImageId"], SourceRegion=HOME)[
            "ImageId"
        ]
        ec2.create_tags(Resources=[made], Tags=[{"Key": "preheat:parameter", "Value": parameter}])
        return made

    foreign = another("large-v3", "/preheat/large-v3")
    other = another("preheat-newer", "/preheat/ami")
    time.sleep(1.1)  # AWS's creation dates have a resolution of a second
    unpublished = another("preheat-newest", "/preheat/ami")
    built.cloud.client("ssm").put_parameter(Name="/preheat/ami", Value=other, Type="String", Overwrite=True)
    code, printed = built.command.run("ami-clean")
    assert code == 0, printed
    lines = {line.split()[1]: line.split()[-1] for line in printed.splitlines() if "  ami-" in line}
    assert lines == {
        built.ami["ImageId"]: "old",
        other: "current",
        unpublished: "unpublished",
        built.copy["ImageId"]: "current",
    }
    assert "make ami-clean REMOVE=yes" in printed
    everything = {built.ami["ImageId"], other, unpublished, foreign}
    assert {image["ImageId"] for image in built.cloud.own_amis()} == everything

    built.command.environment["REMOVE"] = "yes"
    code, printed = built.command.run("ami-clean")
    assert code == 0, printed
    assert {image["ImageId"] for image in built.cloud.own_amis()} == {other, unpublished, foreign}
    assert {image["ImageId"] for image in built.cloud.own_amis(ABROAD)} == {built.copy["ImageId"]}
    assert built.cloud.leftovers() == []
