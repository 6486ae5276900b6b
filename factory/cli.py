"""The build host's command line: `python -m factory COMMAND`, which the Makefile's targets call."""

import argparse
import subprocess

from factory.clean import clean
from factory.console import FactoryError, carry_out, say
from factory.docs import docs
from factory.ec2.ami import ami
from factory.ec2.fleet import fleet, fleet_remove
from factory.ec2.fleetstatus import fleet_status
from factory.ec2.retire import ami_clean
from factory.local.basedisk import rootfs
from factory.local.demo import demo
from factory.local.image import ARTIFACT, image
from factory.local.machine import booted
from factory.workspace import workspace


def base() -> None:
    """Print the path of the base system's tar, making it if needed."""
    with workspace("rootfs", wait=True):  # several role tests may ask for it at once
        print(rootfs())


def ssh() -> None:
    """Boot the image on a temporary overlay and open a shell on it; it goes when the shell ends."""
    if not ARTIFACT.raw.exists():
        raise FactoryError(f"{ARTIFACT.raw} does not exist", "Run: make image")
    with booted(ARTIFACT.raw, "ssh", keep=False) as machine:
        say("the machine is up; your changes are discarded when you log out")
        # -t: with a terminal. BatchMode in the ssh configuration affects only the login.
        subprocess.run(machine.ssh("-t"), check=False)


COMMANDS = {
    "rootfs": base,
    "image": image,
    "demo": demo,
    "ssh": ssh,
    "ami": ami,
    "ami-clean": ami_clean,
    "fleet": fleet,
    "fleet-status": fleet_status,
    "fleet-remove": fleet_remove,
    "docs": docs,
    "clean": clean,
}


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="factory", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    chosen = COMMANDS[parser.parse_args().command]
    carry_out(chosen)
