"""What a run of `make ami` has on EC2 while it builds: instance, volume, key pair, security group.

All of it is named or tagged by the run, and a note of the run is written before any of it is made. So it can
be removed whatever happens: when the build has failed, and by the next run when this one was killed.
"""

import ipaddress
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from factory import images
from factory.aws import PAUSE, Client, client, explained, patiently
from factory.console import FactoryError, say
from factory.preflight import Plan
from factory.settings import Settings

ADDRESS = "https://checkip.amazonaws.com"  # Amazon's own service; it answers with the caller's address
SSH = 22
LAUNCH_TEMPLATES = "packer-fleet-launch-template-*"  # as Packer's plugin calls them


@dataclass(frozen=True)
class Run:
    """One build: its name, which everything that it makes bears, and the AMI's while that is unfinished."""

    id: str
    region: str
    unfinished_ami: str


@contextmanager
def noted(plan: Plan, region: str, note: Path) -> Iterator[Run]:
    """A run whose note is there as long as anything of it may be; at the end all of it is removed."""
    run = Run(f"preheat-{uuid.uuid4().hex[:12]}", region, plan.name)
    write_note(note, run)
    try:
        yield run
        write_note(note, replace(run, unfinished_ami=""))
    finally:
        try:
            remove_noted(note)
        except FactoryError as error:  # what went wrong before is the better thing to hear of
            say(f"not everything of {run.id} could be removed; the next make ami does it. {error}")


def write_note(note: Path, run: Run) -> None:
    """Write down what is to be removed, for `remove_noted`."""
    note.write_text(json.dumps(asdict(run), indent=2))


def remove_noted(note: Path) -> None:
    """Remove what the run with this note has left on EC2, and then the note; nothing if there is none."""
    if not note.exists():
        return
    run = Run(**json.loads(note.read_text()))
    with explained():
        remove(run)
    note.unlink()


def remove(run: Run) -> None:
    """Remove everything of a run that is still there: in order, since one thing holds the other."""
    ec2 = client("ec2", run.region)
    tagged = [{"Name": "tag:preheat:run", "Values": [run.id]}]
    ec2.delete_key_pair(KeyName=run.id)  # no error where there is none
    remove_launch_templates(ec2, run)
    if instances := alive(ec2, tagged):
        say(f"remove the builder {', '.join(instances)}")
    while instances:
        ec2.terminate_instances(InstanceIds=instances)  # no error where it is shutting down
        time.sleep(PAUSE)
        instances = alive(ec2, tagged)
    unattached = {"Name": "status", "Values": ["available"]}  # the others go with their instance
    for volume in ec2.describe_volumes(Filters=[*tagged, unattached])["Volumes"]:
        say(f"remove the builder's volume {volume['VolumeId']}")
        ec2.delete_volume(VolumeId=volume["VolumeId"])
    for group in ec2.describe_security_groups(Filters=tagged)["SecurityGroups"]:
        patiently(ec2.delete_security_group, "DependencyViolation", GroupId=group["GroupId"])
    image = images.named(ec2, run.unfinished_ami) if run.unfinished_ami else None
    # An old Packer tags it as the last thing; a current one at once, so that of another host's run is known.
    if image and images.tags(image).get("preheat:run", run.id) == run.id:
        say(f"remove the unfinished {image['ImageId']}")
        images.remove(ec2, image)


def remove_launch_templates(ec2: Client, run: Run) -> None:
    """Remove what Packer's plugin launches spot instances by, and leaves behind when it crashes.

    Its name is random and it has no tags; those that it gives to instances are the run's.
    """
    by_packer = [{"Name": "launch-template-name", "Values": [LAUNCH_TEMPLATES]}]
    for found in ec2.describe_launch_templates(Filters=by_packer)["LaunchTemplates"]:
        chosen = {"LaunchTemplateId": found["LaunchTemplateId"]}
        (version,) = ec2.describe_launch_template_versions(**chosen, Versions=["$Latest"])[
            "LaunchTemplateVersions"
        ]
        given = version["LaunchTemplateData"].get("TagSpecifications", [])
        if {"Key": "preheat:run", "Value": run.id} in [tag for made in given for tag in made["Tags"]]:
            say(f"remove the launch template {found['LaunchTemplateName']}")
            ec2.delete_launch_template(**chosen)


def alive(ec2: Client, filters: list[dict[str, Any]]) -> list[str]:
    """Ids of the instances that are not terminated yet."""
    states = ["pending", "running", "shutting-down", "stopping", "stopped"]
    found = ec2.describe_instances(Filters=[*filters, {"Name": "instance-state-name", "Values": states}])
    return [instance["InstanceId"] for r in found["Reservations"] for instance in r["Instances"]]


def make_security_group(run: Run, settings: Settings, subnet: str) -> str:
    """A security group in the subnet's network that lets in ssh from the caller alone; its id."""
    ec2 = client("ec2", run.region)
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    own = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "tag:preheat:run", "Values": [run.id]}]
    for group in ec2.describe_security_groups(Filters=own)["SecurityGroups"]:
        return str(group["GroupId"])  # of an earlier try, in another zone
    group = ec2.create_security_group(
        GroupName=run.id,
        Description=f"ssh to the builder of {run.unfinished_ami}",
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
    """This host's IPv4 address as AWS sees it; FactoryError if that cannot be found out."""
    try:
        with urllib.request.urlopen(ADDRESS, timeout=10) as answer:
            return str(ipaddress.IPv4Address(answer.read().decode().strip()))
    except (OSError, ValueError) as error:
        raise FactoryError(
            f"{ADDRESS} does not say which address this host has on the internet: {error}",
            'Set ssh_cidrs to the network that you reach EC2 from, such as ["203.0.113.7/32"]',
        ) from error
