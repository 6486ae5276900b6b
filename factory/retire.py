"""`make ami-clean`: lists what `make ami` has made, and removes the old AMIs with their snapshots."""

import os

from botocore.exceptions import ClientError

from factory import images
from factory.aws import client, code, explained
from factory.console import say
from factory.images import Image
from factory.settings import Settings, read_settings


def ami_clean() -> None:
    """List the AMIs made for the SSM parameter, in all regions; with REMOVE=yes remove the old ones.

    Old is what was made before the AMI that the parameter names; a later one is still to be published.
    """
    settings = read_settings()
    told = os.environ.get("REMOVE") == "yes"
    old = 0
    with explained():
        for region in settings.keys:
            ec2, current = client("ec2", region), current_ami(settings, region)
            made = made_for(settings, region)
            since = next((images.created(image) for image in made if image["ImageId"] == current), None)
            for image in made:
                what = "current" if image["ImageId"] == current else "unpublished"
                if since and images.created(image) < since:
                    what = "removed" if told else "old"
                    old += 1
                    if told:
                        images.remove(ec2, image)
                created = f"{images.created(image):%Y-%m-%d %H:%M}"
                print(f"{region}  {image['ImageId']}  {image['Name']}  {created}  {what}")
    if old and not told:
        say(f"{old} old; to remove them with their snapshots: make ami-clean REMOVE=yes")


def made_for(settings: Settings, region: str) -> list[Image]:
    """The account's AMIs in a region that were made for the SSM parameter, the newest first."""
    mark = {"Name": "tag:preheat:parameter", "Values": [settings.ssm_parameter]}
    found: list[Image] = client("ec2", region).describe_images(Owners=["self"], Filters=[mark])["Images"]
    return sorted(found, key=images.created, reverse=True)


def current_ami(settings: Settings, region: str) -> str:
    """The AMI that the region's SSM parameter names; empty where there is no parameter."""
    try:
        found = client("ssm", region).get_parameter(Name=settings.ssm_parameter)
    except ClientError as error:
        if code(error) != "ParameterNotFound":
            raise
        return ""
    return str(found["Parameter"]["Value"])
