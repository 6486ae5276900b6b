"""`make ami-clean`: lists what `make ami` has made, and removes the old AMIs with their snapshots."""

import os

from botocore.exceptions import ClientError

from factory import images
from factory.aws import client, code, explained
from factory.console import say
from factory.images import Image
from factory.settings import Settings, read_settings


def ami_clean() -> None:
    """List the AMIs in all regions of the settings; with REMOVE=yes remove those no SSM parameter names."""
    settings = read_settings()
    told = os.environ.get("REMOVE") == "yes"
    old = 0
    with explained():
        for region in settings.keys:
            current = current_ami(settings, region)
            ec2 = client("ec2", region)
            for image in made(region):
                keep = image["ImageId"] == current
                old += not keep
                what = "current" if keep else "removed" if told else "old"
                if told and not keep:
                    images.remove(ec2, image)
                created = f"{images.created(image):%Y-%m-%d %H:%M}"
                print(f"{region}  {image['ImageId']}  {image['Name']}  {created}  {what}")
    if old and not told:
        say(f"{old} old; to remove them with their snapshots: make ami-clean REMOVE=yes")


def made(region: str) -> list[Image]:
    """The account's AMIs in a region that bear the tags of `make ami`, the newest first."""
    found: list[Image] = client("ec2", region).describe_images(
        Owners=["self"], Filters=[{"Name": "tag-key", "Values": ["preheat:inputs"]}]
    )["Images"]
    return sorted(found, key=images.created, reverse=True)


def current_ami(settings: Settings, region: str) -> str:
    """The AMI that the region's SSM parameter names; without a parameter, the newest."""
    try:
        found = client("ssm", region).get_parameter(Name=settings.ssm_parameter)
    except ClientError as error:
        if code(error) != "ParameterNotFound":
            raise
        newest = next(iter(made(region)), None)
        return newest["ImageId"] if newest else ""
    return str(found["Parameter"]["Value"])
