"""An instance of an AMI, launched as its users would launch it, and reached over ssh.

It is tagged with a run (builder.py), which always removes it. If this host cannot, the instance terminates
itself (deadline.py).
"""

import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from factory import packer
from factory.console import LOGS, FactoryError
from factory.ec2 import images
from factory.ec2.aws import PAUSE, Client, patiently
from factory.ec2.builder import SSH, make_security_group, market
from factory.ec2.deadline import passing
from factory.ec2.images import Image
from factory.ec2.notes import Run
from factory.ec2.report import Report
from factory.ec2.settings import Settings
from factory.ssh import SSH_CONFIG, Machine

CONSOLE = LOGS / "proof-console.log"
USER = "admin"  # the default user of Debian's cloud-init
START_SECONDS, BOOT_SECONDS = 300, 900  # limits: until it is running, until ssh answers
LIFE = timedelta(hours=2)  # far more than a proof takes
# RunInstances is retried on these: EC2 may not see yet what was created a moment ago.
NOT_YET = (
    "InvalidGroup.NotFound",
    "InvalidKeyPair.NotFound",
    "InvalidAMIID.NotFound",
    "InvalidAMIID.Unavailable",
)


@dataclass(frozen=True)
class Instance:
    """An instance that EC2 runs: its id and type, when it was launched, and how to log in."""

    id: str
    instance_type: str
    launched: float  # by time.monotonic()
    machine: Machine


@dataclass(frozen=True)
class Launch:
    """What to launch and how; `on_first` finds a place with capacity for it."""

    ec2: Client
    run: Run
    image: Image
    settings: Settings
    folder: Path  # for the private key and the ssh configuration

    def on_first(self, candidates: list[tuple[str, str]], report: Report) -> Instance:
        """An instance in the first candidate with capacity, those of the type it was built on first.

        FactoryError if none has capacity.
        """
        key = self.make_key()
        built_on = images.tags(self.image).get("preheat:instance-type")
        for instance_type, subnet in sorted(candidates, key=lambda candidate: candidate[0] != built_on):
            request = self.request(instance_type, subnet)
            with report.step(f"launch on {instance_type}", subnet) as line:
                try:
                    made = patiently(self.ec2.run_instances, *NOT_YET, **request)
                except ClientError as error:
                    if not packer.NO_CAPACITY.search(str(error)):
                        raise
                    line.result = "no capacity"
                    continue
                launched = time.monotonic()
                described = running(self.ec2, made["Instances"][0], public=self.public)
                line.result = str(described["InstanceId"])
            return Instance(line.result, instance_type, launched, self.machine(described, key))
        raise FactoryError(
            f"EC2 has no capacity to test {self.image['ImageId']}, so it is not published",
            "Run it again later to continue with the test, or set verify = false",
        )

    @property
    def public(self) -> bool:
        """Whether this host reaches the instance by its public address."""
        return self.settings.ssh_interface == "public_ip"

    def machine(self, instance: dict[str, Any], key: Path) -> Machine:
        """The instance as a Machine; writes the ssh configuration for it."""
        host, port = address(instance, public=self.public)
        config = self.folder / "ssh_config"
        config.write_text(SSH_CONFIG.format(host=host, port=port, user=USER, key=key))
        return Machine("ami", port, USER, key, config, CONSOLE)

    def make_key(self) -> Path:
        """Create a key pair in EC2, as a user would, and return the file with the private key."""
        made = self.ec2.create_key_pair(KeyName=self.run.id, KeyType="ed25519")
        key = self.folder / "key"
        key.touch(mode=0o600)
        key.write_text(made["KeyMaterial"])
        return key

    def request(self, instance_type: str, subnet: str) -> dict[str, Any]:
        """RunInstances' parameters: the AMI unchanged, in a builder's network, with a deadline."""
        tags = self.settings.tags | {
            "Name": f"{self.run.id} (proves {self.image['Name']})",
            "preheat:run": self.run.id,
        }
        tag_list = images.as_tags(tags)
        network = {
            "DeviceIndex": 0,
            "SubnetId": subnet,
            "Groups": [make_security_group(self.run, self.settings, subnet)],
            "AssociatePublicIpAddress": self.public,
        }
        return {
            "ImageId": self.image["ImageId"],
            "InstanceType": instance_type,
            "MinCount": 1,
            "MaxCount": 1,
            "KeyName": self.run.id,
            "NetworkInterfaces": [network],
            "InstanceInitiatedShutdownBehavior": "terminate",
            "UserData": passing(datetime.now(UTC) + LIFE),
            "TagSpecifications": [
                {"ResourceType": made, "Tags": tag_list} for made in ("instance", "volume")
            ],
            **market(self.settings),
        }


def running(ec2: Client, instance: dict[str, Any], *, public: bool) -> dict[str, Any]:
    """Wait until an instance runs and has an address; EC2's description of it, or FactoryError."""
    end = time.monotonic() + START_SECONDS
    while instance["State"]["Name"] != "running" or not address(instance, public=public)[0]:
        if instance["State"]["Name"] not in ("pending", "running") or time.monotonic() > end:
            reason = instance.get("StateReason", {}).get("Message", "it has no address")
            raise FactoryError(
                f"the instance {instance['InstanceId']} is {instance['State']['Name']}: {reason}",
                "The AMI is not published. Run it again to continue with the test",
            )
        time.sleep(PAUSE)
        found = patiently(
            ec2.describe_instances, "InvalidInstanceID.NotFound", InstanceIds=[instance["InstanceId"]]
        )
        instance = found["Reservations"][0]["Instances"][0]
    return instance


def address(instance: dict[str, Any], *, public: bool) -> tuple[str, int]:
    """Where an instance answers ssh: its address, empty while it has none, and the port."""
    return instance.get("PublicIpAddress" if public else "PrivateIpAddress", ""), SSH


def wait_for_login(instance: Instance) -> float:
    """Wait until a login succeeds; the seconds since the launch, or FactoryError after BOOT_SECONDS."""
    end = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < end:
        login = [*instance.machine.ssh("-o", "ConnectTimeout=5"), "true"]
        if subprocess.run(login, capture_output=True, check=False).returncode == 0:
            return time.monotonic() - instance.launched
        time.sleep(0.5)
    raise FactoryError(f"it did not answer ssh within {BOOT_SECONDS} s", "Look at its console")


def keep_console(ec2: Client, instance: Instance) -> None:
    """Write an instance's console output so far to a file."""
    said = ec2.get_console_output(InstanceId=instance.id, Latest=True).get("Output", "")
    instance.machine.console.write_text(said)
