"""`make ami-clean`: lists AMIs and builders of `make ami`, and removes the old AMIs with their snapshots."""

import os

from botocore.exceptions import BotoCoreError, ClientError

from factory.console import FactoryError, say
from factory.ec2 import images
from factory.ec2.aws import DENIED, client, code, explain, explained
from factory.ec2.builder import alive
from factory.ec2.images import Image
from factory.ec2.settings import Settings, read_settings


def ami_clean() -> None:
    """List builders, and AMIs made for the SSM parameter, in every region; with REMOVE=yes remove old AMIs.

    Old AMIs are those made before the one that the parameter names; a later one is not published yet. A
    builder is only listed, because another host may be using it.
    """
    settings, unknown = read_settings(), list[str]()
    remove = os.environ.get("REMOVE") == "yes"
    old = 0
    with explained():
        for region in enabled_regions(settings.region):
            try:
                list_builders(region)
                old += list_amis(settings, region, remove=remove)
            except (ClientError, BotoCoreError) as error:
                if region in settings.keys:
                    raise
                if isinstance(error, ClientError) and code(error) in DENIED:
                    say(f"skipped {region}: these credentials have no access ({code(error)})")
                    continue
                say(f"{region} could not be listed: {explain(error)}")
                unknown.append(region)
    if old and not remove:
        say(f"{old} old AMIs; to remove them with their snapshots: make ami-clean REMOVE=yes")
    if unknown:
        raise FactoryError(
            f"could not list {', '.join(unknown)}",
            "Fix the problems listed above, and run it again",
        )


def enabled_regions(region: str) -> list[str]:
    """All regions enabled for the account, as other settings may have used any of them."""
    found = client("ec2", region).describe_regions()["Regions"]
    return sorted(item["RegionName"] for item in found)


def list_builders(region: str) -> None:
    """Print each run's instances in a region that are not terminated, with the command to terminate them."""
    for instance in alive(client("ec2", region), [{"Name": "tag-key", "Values": ["preheat:run"]}]):
        name, since = images.tags(instance).get("Name", ""), f"{instance['LaunchTime']:%Y-%m-%d %H:%M}"
        print(f"{region}  {instance['InstanceId']}  {name}  {since}  {instance['State']['Name']}")
        end = f"aws ec2 terminate-instances --region {region} --instance-ids {instance['InstanceId']}"
        say(f"to terminate it, if no make ami is using it: {end}")


def list_amis(settings: Settings, region: str, *, remove: bool) -> int:
    """Print the AMIs in a region, and remove the old ones if told; how many are old."""
    ec2, made = client("ec2", region), made_for(settings, region)
    current = current_ami(settings, region) if made else ""
    since = next((images.created(image) for image in made if image["ImageId"] == current), None)
    old = 0
    for image in made:
        what = "current" if image["ImageId"] == current else "unpublished"
        if since and images.created(image) < since:
            what = "removed" if remove else "old"
            old += 1
            if remove:
                images.remove(ec2, image)
        created = f"{images.created(image):%Y-%m-%d %H:%M}"
        print(f"{region}  {image['ImageId']}  {image['Name']}  {created}  {what}")
    return old


def made_for(settings: Settings, region: str) -> list[Image]:
    """The account's AMIs in a region that were made for the SSM parameter, the newest first."""
    mark = {"Name": "tag:preheat:parameter", "Values": [settings.ssm_parameter]}
    found: list[Image] = client("ec2", region).describe_images(Owners=["self"], Filters=[mark])["Images"]
    return sorted(found, key=images.created, reverse=True)


def current_ami(settings: Settings, region: str) -> str:
    """The AMI that the region's SSM parameter names; empty if there is no parameter."""
    try:
        found = client("ssm", region).get_parameter(Name=settings.ssm_parameter)
    except ClientError as error:
        if code(error) != "ParameterNotFound":
            raise
        return ""
    return str(found["Parameter"]["Value"])
