"""Publish a finished AMI: tags, copies to other regions, sharing, deprecation date, SSM parameter.

Each step first checks whether it has been done, so that a run continues where an interrupted one stopped. A
failure in one region does not stop the others.
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from factory.console import FactoryError, say
from factory.ec2 import images
from factory.ec2.aws import PAUSE, Client, client, code, explain, explained
from factory.ec2.images import Image
from factory.ec2.report import Report
from factory.ec2.settings import Settings

# Four hours for an AMI: a copy to another region takes minutes, but hours when the service is busy.
PATIENCE = {"Delay": 15, "MaxAttempts": 960}
VALIDATION_TRIES = 45  # polls for the SSM parameter, PAUSE seconds apart; it takes seconds


def publish(name: str, settings: Settings, record: Path, report: Report) -> None:
    """Publish the AMI of this name in the region of the build and in those it is copied to.

    `record` is the build's image.json. If a region fails, the others are still finished, and FactoryError is
    raised at the end.
    """
    with explained(), report.step("image", settings.region) as line:
        ec2 = client("ec2", settings.region)
        image = available(ec2, name)
        line.result = str(image["ImageId"])
    purpose = {"preheat:parameter": settings.ssm_parameter}
    tags = images.tags(image) | settings.tags | purpose | version_tags(record)
    publication = Publication(settings, image, tags, report)
    failed: dict[str, FactoryError] = {}
    for work in (publication.begin, publication.finish):  # start all copies before waiting for one
        for region in settings.keys:
            if region in failed:
                continue
            try:
                work(region)
            except FactoryError as error:
                failed[region] = error
            except (ClientError, BotoCoreError) as error:
                failed[region] = explain(error)
    if failed:
        raise FactoryError(
            "\n".join(f"the AMI is not finished in {where}: {error}" for where, error in failed.items()),
            "Run it again to continue with what is missing",
        )


@dataclass(frozen=True)
class Publication:
    """The AMI in the region where it was built, and how to publish it in every region."""

    settings: Settings
    image: Image
    tags: dict[str, str]
    report: Report

    def begin(self, region: str) -> None:
        """Start copying the AMI to a region, unless there is a copy."""
        if region == self.settings.region:
            return
        ec2 = client("ec2", region)
        if images.usable(ec2, self.image["Name"]):
            return
        key = self.settings.copy_regions[region]
        encryption = {"Encrypted": True} if self.settings.encrypted else {}
        copied = ec2.copy_image(
            Name=self.image["Name"],
            Description=self.image.get("Description", ""),
            SourceImageId=self.image["ImageId"],
            SourceRegion=self.settings.region,
            TagSpecifications=[
                {"ResourceType": made, "Tags": self.tag_list()} for made in ("image", "snapshot")
            ],
            **encryption | ({"KmsKeyId": key} if key else {}),
        )
        say(f"copy to {region}: {copied['ImageId']}")

    def finish(self, region: str) -> None:
        """Wait for the AMI in a region, then tag and share it, deprecate it and set the parameter."""
        ec2 = client("ec2", region)
        if region != self.settings.region:
            with self.report.step("copy", region) as line:
                line.result = str(available(ec2, self.image["Name"])["ImageId"])
        image = available(ec2, self.image["Name"])
        with self.report.step("tag", region) as line:
            line.result = f"{self.tag(ec2, image)} tags on the AMI and its snapshots"
        with self.report.step("share", region) as line:
            line.result = self.share(ec2, image)
        with self.report.step("deprecate", region) as line:
            line.result = self.deprecate(ec2, image)
        with self.report.step("parameter", region) as line:
            line.result = self.set_parameter(region, image)

    def tag(self, ec2: Client, image: Image) -> int:
        """Tag the AMI and its snapshots, and require IMDSv2 on its instances; returns the number of tags."""
        ec2.create_tags(
            Resources=[image["ImageId"], *images.snapshots(image)],
            Tags=self.tag_list(),
        )
        if image.get("ImdsSupport") != "v2.0":  # a copy does not always inherit it
            ec2.modify_image_attribute(ImageId=image["ImageId"], ImdsSupport={"Value": "v2.0"})
        return len(self.tags)

    def tag_list(self) -> list[dict[str, str]]:
        """The tags in EC2's form."""
        return images.as_tags(self.tags)

    def share(self, ec2: Client, image: Image) -> str:
        """Grant launch permission to exactly these accounts; revoke any other grant, public ones included."""
        asked = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
        there: list[dict[str, str]] = asked["LaunchPermissions"]
        wanted = [{"UserId": account} for account in sorted(set(self.settings.share_with))]
        added = [grant for grant in wanted if grant not in there]
        removed = [grant for grant in there if grant not in wanted]
        if removed:
            names = ", ".join(name for grant in removed for name in grant.values())
            say(f"{image['ImageId']} is no longer shared with {names}, which share_with does not list")
        if added or removed:
            permission = {"Add": added, "Remove": removed}
            ec2.modify_image_attribute(ImageId=image["ImageId"], LaunchPermission=permission)
        return ", ".join(grant["UserId"] for grant in wanted) or "private"

    def deprecate(self, ec2: Client, image: Image) -> str:
        """Set the deprecation date, counted from the build, and return it."""
        date = images.created(self.image) + timedelta(days=self.settings.deprecate_after)
        if date > datetime.now(UTC):  # AWS rejects dates in the past
            ec2.enable_image_deprecation(ImageId=image["ImageId"], DeprecateAt=date)
        return f"{date:%Y-%m-%d}"

    def set_parameter(self, region: str, image: Image) -> str:
        """Set the region's SSM parameter to the AMI. The last step, so that it only names finished AMIs."""
        ssm, name = client("ssm", region), self.settings.ssm_parameter
        try:
            there = ssm.get_parameter(Name=name)["Parameter"]["Value"]
        except ClientError as error:
            if code(error) != "ParameterNotFound":
                raise
            there = ""
        if there != image["ImageId"]:
            ssm.put_parameter(
                Name=name, Value=image["ImageId"], Type="String", DataType="aws:ec2:image", Overwrite=True
            )
            wait_for_parameter(ssm, name, image["ImageId"])
        return name


def wait_for_parameter(ssm: Client, name: str, value: str) -> None:
    """Wait until a parameter has the AMI's id: SSM validates it only after PutParameter has returned."""
    for _ in range(VALIDATION_TRIES):
        with suppress(ssm.exceptions.ParameterNotFound):
            if ssm.get_parameter(Name=name)["Parameter"]["Value"] == value:
                return
        time.sleep(PAUSE)
    raise FactoryError(
        f"SSM accepted {value} for the parameter {name} but has not set it",
        "SSM did not find the AMI, or may not read it. Run it again; if it persists, check the parameter's"
        " events in EventBridge or CloudTrail",
    )


def available(ec2: Client, name: str) -> Image:
    """Wait for the account's AMI of this name, and return it; FactoryError if there is none or it failed."""
    image = images.named(ec2, name)
    if image and image["State"] == "pending":
        say(f"wait for {image['ImageId']}")
        with suppress(WaiterError):  # the AMI has failed, which is reported below
            ec2.get_waiter("image_available").wait(ImageIds=[image["ImageId"]], WaiterConfig=PATIENCE)
        image = images.named(ec2, name)
    if not image or image["State"] != "available":
        state = image["State"] if image else "gone"
        raise FactoryError(f"the AMI {name} is {state}", "Run it again to make a new one")
    return image


def version_tags(record: Path) -> dict[str, str]:
    """The tags that are known only after the build: versions from image.json."""
    if not record.exists():
        return {}  # built on another host, which has set them
    facts = json.loads(record.read_text())
    model = facts["model"]
    tags = {
        "driver": facts["driver"],
        "gpu": (facts["gpu"] or {}).get("name"),
        "cuda": facts["cuda"],
        "torch": facts["torch"],
        "kernel": facts["kernel"],
        "model": model["id"] or model["name"],
        "model-revision": model["revision"] or model["sha256"],
        "state-sha256": facts["state"]["sha256"],
    }
    return {f"preheat:{key}": value or "none" for key, value in tags.items()}
