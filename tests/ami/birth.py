"""Adds the tags with which a current Packer creates EC2 resources.

Debian's Packer 1.6.6, with which the tests run if there is no newer one, sets some tags only later, and moto
ignores some tags in requests. No real AMI is made with either, so the missing tags are added here, and the
policy is checked against the order of calls of packer-plugin-amazon 1.8 (builder/ebs/builder.go,
step_create_ami.go; common/step_run_spot_instance.go): a launch template and CreateImage carry run_tags,
ModifyImageAttribute comes next, CreateTags last. test_policy.py also makes exactly these calls.
"""

from collections.abc import Mapping
from typing import Any

from tests.ami.calls import ACCOUNT, asked_tags

Backend = Any  # moto's EC2 of a region


def with_run_tags(parameters: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """CreateImage's parameters with the tags of the instance, its run_tags, for AMI and snapshots."""
    if any(key.startswith("TagSpecification.") for key in parameters):
        return dict(parameters)
    asked = {}
    for number, kind in enumerate(("image", "snapshot"), 1):
        asked[f"TagSpecification.{number}.ResourceType"] = kind
        for place, (key, value) in enumerate(tags.items(), 1):
            asked[f"TagSpecification.{number}.Tag.{place}.Key"] = key
            asked[f"TagSpecification.{number}.Tag.{place}.Value"] = value
    return {**parameters, **asked}


def without_snapshot_tags(parameters: Mapping[str, str]) -> dict[str, str]:
    """CreateImage's parameters less the tags for its snapshots, which moto cannot set."""
    dropped = tuple(
        key.removesuffix("ResourceType")
        for key, value in parameters.items()
        if key.endswith(".ResourceType") and value == "snapshot"
    )
    return {key: value for key, value in parameters.items() if not key.startswith(dropped)}


def tag(ec2: Backend, action: str, parameters: Mapping[str, str]) -> None:
    """Set the tags with which a call should have created its resources."""
    if action in ("ec2:CreateImage", "ec2:CopyImage"):
        for ami in ec2.amis.values():
            if ami.owner_id == ACCOUNT and ami.name == parameters["Name"]:
                ami.add_tags(asked_tags(parameters, "image"))
                ami.ebs_snapshot.add_tags(asked_tags(parameters, "snapshot"))
    if action == "ec2:CreateFleet":
        for reservation in ec2.all_reservations():
            for instance in reservation.instances:
                if not instance.get_tags():
                    run = {"preheat:run": instance.key_name}  # a run's key pair has its name
                    for name in (
                        instance.id,
                        *(disk.volume_id for disk in instance.block_device_mapping.values()),
                    ):
                        ec2.create_tags([name], run)
