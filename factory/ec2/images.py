"""AMIs as EC2 describes them: by name, their tags and snapshots, and how to remove one."""

from datetime import datetime
from typing import Any

from factory.console import say
from factory.ec2.aws import Client, patiently

Image = dict[str, Any]


def named(ec2: Client, name: str) -> Image | None:
    """The account's own AMI of this name, or None; EC2 allows one at most."""
    found: list[Image] = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])[
        "Images"
    ]
    return found[0] if found else None


def usable(ec2: Client, name: str) -> Image | None:
    """The account's own AMI of this name, available or pending, or None; one that has failed is removed."""
    image = named(ec2, name)
    if image and image["State"] in ("failed", "error", "invalid"):
        say(f"remove {image['ImageId']}, which has failed")
        remove(ec2, image)
        return None
    return image


def tags(image: Image) -> dict[str, str]:
    """The tags of an AMI as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in image.get("Tags", [])}


def as_tags(values: dict[str, str]) -> list[dict[str, str]]:
    """A dictionary in the form that EC2 takes for tags."""
    return [{"Key": key, "Value": value} for key, value in values.items()]


def snapshots(image: Image) -> list[str]:
    """The ids of an AMI's snapshots; there are none yet while it is pending."""
    disks = [mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", [])]
    return [disk["SnapshotId"] for disk in disks if disk.get("SnapshotId")]


def created(image: Image) -> datetime:
    """When an AMI was made."""
    return datetime.fromisoformat(image["CreationDate"])


def remove(ec2: Client, image: Image) -> None:
    """Deregister an AMI and delete its snapshots; instances launched from it keep running.

    EC2 reports success even if it could not delete a snapshot. A snapshot that another AMI uses is kept;
    any other is deleted in a separate call, which succeeds or raises EC2's reason as a ClientError.
    """
    done = ec2.deregister_image(ImageId=image["ImageId"], DeleteAssociatedSnapshots=True)
    for snapshot in done.get("DeleteSnapshotResults", []):
        if snapshot["ReturnCode"] == "skipped":
            say(f"{snapshot['SnapshotId']} is kept: another AMI uses it")
        elif snapshot["ReturnCode"] != "success":
            say(f"{snapshot['SnapshotId']} of {image['ImageId']} is still there ({snapshot['ReturnCode']})")
            ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
    if image["State"] == "pending":  # it lists no snapshots yet, but their descriptions name it
        about = [{"Name": "description", "Values": [f"*{image['ImageId']}*"]}]
        for snapshot in ec2.describe_snapshots(OwnerIds=["self"], Filters=about)["Snapshots"]:
            patiently(ec2.delete_snapshot, "InvalidSnapshot.InUse", SnapshotId=snapshot["SnapshotId"])
