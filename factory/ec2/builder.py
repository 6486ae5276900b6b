"""The resources of a run of `make ami` on EC2 while it builds: instance, volume, key pair, security group.

All of them bear the run's id as a name or tag, and a note of the run is written before the first is created.
So they are always removed: at the end of the build, even a failed one, or by the next run if this one was
killed.
"""

import ipaddress
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from factory.console import FactoryError, say
from factory.ec2 import images, notes
from factory.ec2.aws import PAUSE, Client, account_of, client, code, explained, patiently
from factory.ec2.notes import Run
from factory.ec2.preflight import Plan
from factory.ec2.settings import Settings

ADDRESS = "https://checkip.amazonaws.com"  # Amazon's own service; it answers with the caller's address
SSH = 22
LAUNCH_TEMPLATES = "packer-fleet-launch-template-*"  # the names that Packer's plugin gives
ENDING_SECONDS = 900  # an instance with a GPU takes minutes to terminate


@contextmanager
def noted(plan: Plan, region: str, folder: Path, *, building: bool = True) -> Iterator[Run]:
    """A run whose note is in the folder as long as it may have resources; all are removed at the end.

    With `building`, they include the AMI, unless the block ends without an error.
    """
    unfinished = plan.name if building else ""
    run = Run(f"preheat-{uuid.uuid4().hex[:12]}", plan.account, region, unfinished)
    note = notes.write(folder, run)
    try:
        yield run
        notes.write(folder, replace(run, unfinished_ami=""))
    finally:
        try:
            remove_noted(note)
        except FactoryError as error:  # must not replace the error of the block
            say(f"some resources of {run.id} could not be removed; the next make ami will do it: {error}")


def remove_all_noted(folder: Path) -> list[Run]:
    """Remove what earlier runs have left; returns the runs of other accounts, whose notes are kept."""
    others = []
    for note in notes.all_in(folder):
        run = notes.read(note)
        say(f"{run.id} has left resources in account {run.account}, {run.region}")
        with explained():
            own = account_of(run.region) == run.account
        if own:
            remove_noted(note)
        else:
            others.append(run)
    return others


def remove_noted(note: Path) -> None:
    """Remove what the run with this note has left on EC2, and then the note."""
    with explained():
        remove(notes.read(note))
    note.unlink()


def remove(run: Run) -> None:
    """Remove everything of a run that still exists, dependents first."""
    ec2 = client("ec2", run.region)
    tagged = [{"Name": "tag:preheat:run", "Values": [run.id]}]
    ec2.delete_key_pair(KeyName=run.id)  # no error if there is none
    end_instances(ec2, run, tagged)  # early, as they cost money
    remove_launch_templates(ec2, run)
    unattached = {"Name": "status", "Values": ["available"]}  # attached ones are deleted with their instance
    for volume in ec2.describe_volumes(Filters=[*tagged, unattached])["Volumes"]:
        say(f"remove the instance's volume {volume['VolumeId']}")
        ec2.delete_volume(VolumeId=volume["VolumeId"])
    for group in ec2.describe_security_groups(Filters=tagged)["SecurityGroups"]:
        patiently(ec2.delete_security_group, "DependencyViolation", GroupId=group["GroupId"])
    image = images.named(ec2, run.unfinished_ami) if run.unfinished_ami else None
    # The AMI may be another host's: a current Packer tags it at once, an old one only at the end.
    if image and images.tags(image).get("preheat:run", run.id) == run.id:
        say(f"remove the unfinished {image['ImageId']}")
        images.remove(ec2, image)


def remove_launch_templates(ec2: Client, run: Run) -> None:
    """Remove launch templates: Packer's plugin makes them for spot instances, and leaves them if it crashes.

    Their names are random and they have no tags, but the tags that they give to instances include the run's.
    """
    by_packer = [{"Name": "launch-template-name", "Values": [LAUNCH_TEMPLATES]}]
    for found in ec2.describe_launch_templates(Filters=by_packer)["LaunchTemplates"]:
        chosen = {"LaunchTemplateId": found["LaunchTemplateId"]}
        try:
            made = ec2.describe_launch_template_versions(**chosen, Versions=["$Latest"])
        except ClientError as error:  # another Packer in the account may just have removed it
            if "NotFound" not in code(error):
                raise
            continue
        given = made["LaunchTemplateVersions"][0]["LaunchTemplateData"].get("TagSpecifications", [])
        if {"Key": "preheat:run", "Value": run.id} in [tag for kind in given for tag in kind["Tags"]]:
            say(f"remove the launch template {found['LaunchTemplateName']}")
            ec2.delete_launch_template(**chosen)


def end_instances(ec2: Client, run: Run, tagged: list[dict[str, Any]]) -> None:
    """Terminate the instances of a run and wait until they are; FactoryError if that takes too long."""
    instances, end = alive(ec2, tagged), time.monotonic() + ENDING_SECONDS
    if instances:
        say(f"remove the instance {' '.join(ids(instances))}")
    while instances:
        if time.monotonic() > end:
            names = " ".join(ids(instances))
            raise FactoryError(
                f"the instance {names} has not terminated within {ENDING_SECONDS // 60} minutes",
                f"Check its state: aws ec2 describe-instances --region {run.region} --instance-ids {names}",
            )
        ec2.terminate_instances(InstanceIds=ids(instances))  # no error for one that is already shutting down
        time.sleep(PAUSE)
        instances = alive(ec2, tagged)


def ids(instances: list[dict[str, Any]]) -> list[str]:
    """The ids of instances."""
    return [instance["InstanceId"] for instance in instances]


def alive(ec2: Client, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The instances that are not terminated yet."""
    states = ["pending", "running", "shutting-down", "stopping", "stopped"]
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[*filters, {"Name": "instance-state-name", "Values": states}]
    )
    return [instance for page in pages for r in page["Reservations"] for instance in r["Instances"]]


def market(settings: Settings) -> dict[str, Any]:
    """RunInstances' parameters for the purchasing option: spot if chosen, else on demand."""
    return {"InstanceMarketOptions": {"MarketType": "spot"}} if settings.spot else {}


def make_security_group(run: Run, settings: Settings, subnet: str) -> str:
    """The id of a security group in the subnet's VPC that allows ssh from the caller only; made if needed."""
    ec2 = client("ec2", run.region)
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    own = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "tag:preheat:run", "Values": [run.id]}]
    for group in ec2.describe_security_groups(Filters=own)["SecurityGroups"]:
        return str(group["GroupId"])  # made by an earlier attempt in another zone
    group = ec2.create_security_group(
        GroupName=run.id,
        Description=f"ssh to the instance of {run.id}",
        VpcId=vpc,
        TagSpecifications=[
            {"ResourceType": "security-group", "Tags": [{"Key": "preheat:run", "Value": run.id}]},
        ],
    )["GroupId"]
    networks = settings.ssh_cidrs or [f"{own_address()}/32"]
    patiently(
        ec2.authorize_security_group_ingress,
        "InvalidGroup.NotFound",
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": SSH,
                "ToPort": SSH,
                "IpRanges": [{"CidrIp": network} for network in networks],
            }
        ],
    )
    return str(group)


def own_address() -> str:
    """This host's IPv4 address as AWS sees it; FactoryError if it cannot be determined."""
    try:
        with urllib.request.urlopen(ADDRESS, timeout=10) as answer:
            return str(ipaddress.IPv4Address(answer.read().decode().strip()))
    except (OSError, ValueError) as error:
        raise FactoryError(
            f"cannot get this host's public address from {ADDRESS}: {error}",
            'Set ssh_cidrs to the network that you reach EC2 from, such as ["203.0.113.7/32"]',
        ) from error
