"""The checks before `make ami` launches anything, and the plan that results from them."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from itertools import product
from typing import Any

from botocore.exceptions import ClientError

from factory import packer
from factory.console import FactoryError, say
from factory.ec2.aws import Client, account_of, client, code, endpoint, explained
from factory.ec2.instances import check_instance_types
from factory.ec2.settings import Settings
from factory.ec2.sources import check_source
from factory.ec2.startup import user_data
from factory.inputs import VERSION, fingerprint
from factory.model import check_model

# Quotas in vCPUs of running instances, by the first letters of the instance type: on demand, spot.
QUOTAS = {
    ("g", "gr", "vt"): ("L-DB2E81BA", "L-3819A6DF"),
    ("p",): ("L-417A185B", "L-7212CCBC"),
    ("a", "c", "d", "h", "i", "m", "r", "t", "z"): ("L-1216C47A", "L-34B43A08"),
}

DEFAULT_SUBNETS = [{"Name": "default-for-az", "Values": ["true"]}]


@dataclass(frozen=True)
class Plan:
    """What is built, from which source AMI, and where to try it."""

    name: str
    account: str
    inputs: str
    source: dict[str, Any]  # the source AMI as DescribeImages returns it
    candidates: list[tuple[str, str]]  # instance type and subnet, in the order to try them


def check(settings: Settings) -> Plan:
    """Check all that can be checked before anything costs money; FactoryError names the first problem."""
    check_packer(settings)
    check_model()
    check_volume(settings)
    check_sharing(settings)
    user_data(settings)  # raises for a user_data_file that cannot be used
    with explained():
        account = account_of(settings.region)
        say(f"account {account}, region {settings.region}")
        ec2 = client("ec2", settings.region)
        source = find_source(ec2, settings)
        say(f"source {source['ImageId']}, {source['Name']}")
        check_source(source, settings)
        candidates = find_candidates(ec2, settings)
        instance_types = sorted({instance_type for instance_type, _ in candidates})
        described = ec2.describe_instance_types(InstanceTypes=instance_types)["InstanceTypes"]
        check_instance_types(described)
        check_quota(described, settings, instance_types)
        for region in settings.copy_regions:
            client("ec2", region).describe_images(Owners=["self"], MaxResults=5)
    inputs = digest(settings, source)
    return Plan(f"{settings.name_prefix}-{VERSION}-{inputs[:12]}", account, inputs, source, candidates)


def digest(settings: Settings, source: dict[str, Any]) -> str:
    """A digest of everything that determines the AMI: with the same inputs, an existing one is reused."""
    keys = ("volume_size", "volume_iops", "volume_throughput", "encrypted", "kms_key_id")
    choices = {key: getattr(settings, key) for key in keys}
    text = json.dumps([fingerprint(), source["ImageId"], choices])
    return hashlib.sha256(text.encode()).hexdigest()


def check_packer(settings: Settings) -> None:
    """Require a Packer that is new enough for EC2 and has its plugins, and settings that it validates."""
    program = packer.packer()
    if packer.version(program) < packer.PLUGINS_SINCE and not endpoint():
        raise FactoryError(
            f"{program} is Packer {packer.dotted(packer.version(program))}; an AMI needs"
            f" {packer.dotted(packer.PLUGINS_SINCE)} or newer",
            packer.CURRENT,
        )
    packer.validate(program, "amazon-ebs.ami", settings.path)


def check_volume(settings: Settings) -> None:
    """Require the ratio of throughput to IOPS that EC2 allows for gp3."""
    wanted = settings.volume_throughput * 4
    if settings.volume_iops < wanted:
        raise FactoryError(
            f"volume_throughput is {settings.volume_throughput} MiB/s, more than a quarter of volume_iops,"
            f" which is {settings.volume_iops}",
            f"Set volume_iops = {wanted}, or volume_throughput = {settings.volume_iops // 4}",
        )
    if settings.volume_iops > settings.volume_size * 500:
        raise FactoryError(
            f"volume_iops is {settings.volume_iops}, more than 500 for each GiB of volume_size, which is"
            f" {settings.volume_size}",
            f"Set volume_size = {math.ceil(settings.volume_iops / 500)}, or volume_iops ="
            f" {settings.volume_size * 500}",
        )


def check_sharing(settings: Settings) -> None:
    """Require KMS keys for sharing: other accounts cannot use an AMI encrypted with the default key."""
    without = [region for region, key in settings.keys.items() if not key]
    if settings.share_with and settings.encrypted and without:
        raise FactoryError(
            f"share_with names accounts, but in {', '.join(without)} the AMI is encrypted with the default"
            " key, which no other account can use",
            "Set kms_key_id and a key for each of copy_regions that they may use, or encrypted = false",
        )


def find_source(ec2: Client, settings: Settings) -> dict[str, Any]:
    """The AMI to start from, found as in packer/ami.pkr.hcl: by its id, or the newest with the name."""
    wanted = settings.source_ami or settings.source_ami_name
    filters = [{"Name": "image-id" if settings.source_ami else "name", "Values": [wanted]}]
    found = ec2.describe_images(
        Owners=[settings.source_ami_owner], Filters=filters, IncludeDeprecated=bool(settings.source_ami)
    )["Images"]
    if not found:
        raise FactoryError(
            f"account {settings.source_ami_owner} has no AMI {wanted} in {settings.region}",
            "Check region, source_ami or source_ami_name, and source_ami_owner; the account's setting of"
            " Allowed AMIs may hide it, too",
        )
    source: dict[str, Any] = max(found, key=lambda image: image["CreationDate"])
    return source


def find_candidates(ec2: Client, settings: Settings) -> list[tuple[str, str]]:
    """Instance types paired with the subnets whose zones offer them, by the order of the types."""
    found = find_subnets(ec2, settings.region, settings.subnet_ids, "subnet_ids")
    order = {subnet: number for number, subnet in enumerate(settings.subnet_ids)}
    subnets = sorted(found, key=lambda s: (order.get(s["SubnetId"], 0), s["AvailabilityZone"]))
    offered = find_offers(ec2, settings.instance_types)
    candidates = [
        (instance_type, subnet["SubnetId"])
        for instance_type, subnet in product(settings.instance_types, subnets)
        if (instance_type, subnet["AvailabilityZone"]) in offered
    ]
    zones = ", ".join(sorted({subnet["AvailabilityZone"] for subnet in subnets}))
    offering = {instance_type for instance_type, _ in candidates}
    missing = [instance_type for instance_type in settings.instance_types if instance_type not in offering]
    if not candidates:
        raise FactoryError(
            f"none of {', '.join(missing)} is offered in {zones}",
            "Set other instance_types (see aws ec2 describe-instance-type-offerings), or another region",
        )
    if missing:
        say(f"skipped, as not offered in {zones}: {', '.join(missing)}")
    return candidates


def find_subnets(ec2: Client, region: str, ids: list[str], setting: str) -> list[dict[str, Any]]:
    """The subnets of these ids, or those of the default VPC; FactoryError if there are none.

    `setting`: the name of the setting that has the ids.
    """
    asked = {"SubnetIds": ids} if ids else {"Filters": DEFAULT_SUBNETS}
    found: list[dict[str, Any]] = ec2.describe_subnets(**asked)["Subnets"]
    if not found:
        raise FactoryError(
            f"{region} has no default VPC in this account",
            f"Set {setting}, or make one: aws ec2 create-default-vpc",
        )
    return found


def find_offers(ec2: Client, instance_types: list[str]) -> set[tuple[str, str]]:
    """Which of the instance types are offered, each with a zone that does."""
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": instance_types}]
    )
    return {(o["InstanceType"], o["Location"]) for page in pages for o in page["InstanceTypeOfferings"]}


def increase(quota: str, vcpus: int, region: str) -> str:
    """The command that requests more of a quota."""
    return (
        "aws service-quotas request-service-quota-increase --service-code ec2"
        f" --quota-code {quota} --desired-value {vcpus} --region {region}"
    )


def check_quota(described: list[dict[str, Any]], settings: Settings, instance_types: list[str]) -> None:
    """Require quotas that allow these types; one that cannot be read is reported and otherwise ignored."""
    needed = {item["InstanceType"]: item["VCpuInfo"]["DefaultVCpus"] for item in described}
    quotas = client("service-quotas", settings.region)
    for instance_type in instance_types:
        quota = quota_code(instance_type, spot=settings.spot)
        if not quota:
            continue
        if instance_type not in needed:
            say(f"EC2 does not describe {instance_type}; its quota is not checked")
            continue
        try:
            allowed = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota)["Quota"]["Value"]
        except ClientError as error:
            say(f"the quota {quota} for {instance_type} cannot be read ({code(error)}) and is not checked")
            continue
        if allowed < needed[instance_type]:
            raise FactoryError(
                f"the account's quota is {allowed:.0f} vCPUs of the family of {instance_type} in"
                f" {settings.region}, which needs {needed[instance_type]}",
                f"Request an increase: {increase(quota, needed[instance_type], settings.region)}",
            )


def quota_code(instance_type: str, *, spot: bool) -> str | None:
    """The quota that an instance type counts towards; None for a family that is not listed here."""
    letters = re.match("[a-z]*", instance_type)
    family = letters[0] if letters else ""
    return next((codes[spot] for families, codes in QUOTAS.items() if family in families), None)
