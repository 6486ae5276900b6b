"""Checks of the source AMI: what the roles would reject is found before an instance costs money."""

import re
from typing import Any

from factory.console import FactoryError
from factory.ec2.settings import Settings

# How Debian 12 and other systems appear in an AMI's name or description. A company's own AMI may match
# neither; the role base checks the system itself.
WANTED = re.compile(r"debian[-_ ]?12\b|bookworm", re.IGNORECASE)
OTHERS = re.compile(
    r"ubuntu|amazon[ -]?linux|amzn|\bal20\d\d|deep[ -]?learning|red ?hat|\brhel|centos|rocky|alma ?linux"
    r"|fedora|\b(?:open)?suse|\bsles|oracle|windows|bottlerocket|\bkali|debian[-_ ]?\d+",
    re.IGNORECASE,
)
LINUX = "Linux/UNIX"  # EC2's PlatformDetails of systems without a paid licence


def check_source(source: dict[str, Any], settings: Settings) -> None:
    """Require that the source AMI is Debian 12 for x86_64 and fits the volume; FactoryError if not."""
    name = f"{source['ImageId']}, {source['Name']},"
    another = "Choose another source_ami or source_ami_name: it must be Debian 12, or made from it"
    if source["Architecture"] != "x86_64":
        raise FactoryError(f"{name} is for {source['Architecture']}; it must be for x86_64", another)
    text = f"{source['Name']} {source.get('Description', '')}"
    if (says := OTHERS.search(text)) and not WANTED.search(text):
        raise FactoryError(f"{name} is not Debian 12: it calls itself {says[0]}", another)
    if source.get("PlatformDetails", LINUX) != LINUX:
        raise FactoryError(f"{name} is not Debian 12: EC2 bills it as {source['PlatformDetails']}", another)
    size = root_size(source)
    if size > settings.volume_size:
        raise FactoryError(
            f"{name} has a root volume of {size} GiB, and volume_size is {settings.volume_size}",
            f"Set volume_size = {size} or more, or choose another source_ami",
        )


def root_size(source: dict[str, Any]) -> int:
    """The size of an AMI's root snapshot in GiB; 0 if EC2 does not say."""
    disks = {disk.get("DeviceName"): disk.get("Ebs", {}) for disk in source.get("BlockDeviceMappings", [])}
    return int(disks.get(source.get("RootDeviceName"), {}).get("VolumeSize", 0))
