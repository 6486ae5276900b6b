"""`make ami` and its kin as a test starts them, and machines that stand in for instances."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from factory.console import BUILD, ROOT, FactoryError
from factory.local.image import ARTIFACT, image
from factory.local.machine import booted
from factory.ssh import Machine
from tests.ami.cloud import ABROAD, BUILDER, HOME, Cloud, Request

KEY = "arn:aws:kms:{}:123456789012:key/00000000-1111-2222-3333-444444444444"
KEYS = {region: KEY.format(region) for region in (HOME, ABROAD)}
PARTNER = "210987654321"
CHOICES: dict[str, Any] = {
    "region": HOME,
    "ssh_cidrs": ["192.0.2.7/32"],
    "kms_key_id": KEYS[HOME],
    "copy_regions": {ABROAD: KEYS[ABROAD]},
    "share_with": [PARTNER],
    "tags": {"team": "speech"},
    "verify": False,  # except in tests of the proof
}
# Runs `factory` with another play and a test's other replacements; tested is what happens around the play.
WITH_PLAY = """
import sys
from pathlib import Path
from factory import cli, packer
from factory.ec2 import launch, proof
packer.PROJECT = Path({project!r})
{replaced}
cli.main()
"""


@dataclass
class Command:
    """`make ami` and its kin, as processes of their own that talk to the cloud of the test."""

    cloud: Cloud
    folder: Path
    temporary: Path  # must be empty afterwards; its name is short, as it holds sockets
    choices: dict[str, Any] = field(default_factory=lambda: dict(CHOICES))
    bake: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    project: Path = ROOT
    replaced: str = ""  # Python, to be run in the process before the command
    process: subprocess.Popen[str] | None = None  # the last one started

    def start(self, command: str = "ami") -> subprocess.Popen[str]:
        """Start it."""
        (self.folder / "ami.pkrvars.json").write_text(json.dumps(self.choices))
        nato = yaml.safe_load((ROOT / "ansible/models/whisper-nato.yml").read_text())
        (self.folder / "vars.yml").write_text(
            yaml.safe_dump({**nato, "image_accelerator": "cpu", **self.bake})
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HF_"))}
        env |= {
            "TMPDIR": str(self.temporary),
            "SETTINGS": str(self.folder / "ami.pkrvars.json"),
            "MODEL": str(self.folder / "vars.yml"),
            "AWS_ENDPOINT_URL": self.cloud.url,
            "AWS_ACCESS_KEY_ID": BUILDER,
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **self.environment,
        }
        self.process = subprocess.Popen(
            [
                sys.executable, "-c",
                WITH_PLAY.format(project=str(self.project), replaced=self.replaced), command,
            ],
            cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        return self.process

    def run(self, command: str = "ami") -> tuple[int, str]:
        """Run it to its end: exit code and everything it printed."""
        process = self.start(command)
        printed, _ = process.communicate()
        return process.returncode, printed

    def packer(self) -> int:
        """The process of its Packer, which leads a session with plugins and Ansible in it."""
        assert self.process is not None
        found = subprocess.check_output(["pgrep", "--parent", str(self.process.pid), "packer"], text=True)
        return int(found)


@contextmanager
def instance(command: Command) -> Iterator[None]:
    """A machine that stands in for the instance, and accepts the key pair that is created for it."""
    image()
    with booted(ARTIFACT.raw, "instance", keep=False) as machine:

        def authorize(request: Request) -> None:
            with suppress(FactoryError):  # the real play locks everyone out; then the key is for the proof
                let_in(machine, command.cloud, request)

        command.cloud.after["ec2:CreateKeyPair"] = authorize
        command.environment |= {
            "PKR_VAR_instance_host": "127.0.0.1",
            "PKR_VAR_instance_port": str(machine.port),
        }
        yield


def let_in(machine: Machine, cloud: Cloud, request: Request) -> None:
    """Put the key pair that a request names onto the instance, as EC2 does."""
    name = request.parameters["KeyName"]
    machine.run(f"echo '{cloud.public_key(name, request.region)} {name}' >>~/.ssh/authorized_keys")


@contextmanager
def proved(cloud: Cloud) -> Iterator[Machine]:
    """A machine that stands in for the instance of the finished AMI."""
    image()
    with booted(ARTIFACT.raw, "proved", keep=False) as machine:

        def authorize(request: Request) -> None:
            made = {ami["ImageId"]: ami["Name"] for ami in cloud.own_amis()}
            if name := made.get(request.parameters["ImageId"]):
                let_in(machine, cloud, request)
                record = BUILD / f"ami/{name}.image.json"
                if record.exists():  # the same machine is also the builder; the record shows which it is now
                    machine.upload(record, "image.json")
                    machine.run("sudo cp image.json /opt/transcribe/image.json")

        cloud.after["ec2:RunInstances"] = authorize
        yield machine
