"""Whether an AMI can be started from: what the roles would refuse is told before an instance is paid for."""

import re
from typing import Any

from factory.console import FactoryError
from factory.ec2.settings import Settings

# What Debian 12 and other systems call themselves in an AMI's name or description. A company's own may say
# neither: the role base looks again.
WANTED = re.compile(r"debian[-_ ]?12\b|bookworm", re.IGNORECASE)
OTHERS = re.compile(
    r"ubuntu|amazon[ -]?linux|amzn|\bal20\d\d|deep[ -]?learning|red ?hat|\brhel|centos|rocky|alma ?linux"
    r"|fedora|\b(?:open)?suse|\bsles|oracle|windows|bottlerocket|\bkali|debian[-_ ]?\d+",
    re.IGNORECASE,
)
LINUX = "Linux/UNIX"  # as EC2 bills what needs no licence


def check_source(source: dict[str, Any], settings: Settings) -> None:
    """The source AMI is Debian 12 for x86_64, and fits the volume; FactoryError if not."""
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
    """The size of an AMI's root snapshot in GiB; 0 where EC2 does not say."""
    disks = {disk.get("DeviceName"): disk.get("Ebs", {}) for disk in source.get("BlockDeviceMappings", [])}
    return int(disks.get(source.get("RootDeviceName"), {}).get("VolumeSize", 0))
