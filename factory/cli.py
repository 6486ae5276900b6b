"""The build host's command line: `python -m factory COMMAND`, which the Makefile's targets call."""

import argparse
import shutil
import signal
import subprocess
import sys
from types import FrameType

from factory.ami import ami
from factory.basedisk import rootfs
from factory.builder import remove_all_noted
from factory.console import BUILD, CHECKOUT, FactoryError, say
from factory.demo import demo
from factory.image import ARTIFACT, image
from factory.machine import booted, workspace
from factory.mounts import unmount_below
from factory.retire import ami_clean
from factory.settings import readme

MOLECULE_IMAGE = f"localhost/preheat-base-{CHECKOUT}"  # as molecule/podman.yml names it


def base() -> None:
    """Print the path of the base system's tar, making it if needed."""
    with workspace("rootfs", wait=True):  # which several role tests ask for at once
        print(rootfs())


def ssh() -> None:
    """Boot the image on a throw-away overlay and open a shell on it; it goes when the shell ends."""
    if not ARTIFACT.raw.exists():
        raise FactoryError(f"{ARTIFACT.raw} does not exist", "Run: make image")
    with booted(ARTIFACT.raw, "ssh", keep=False) as machine:
        say("the machine answers; what you change on it is thrown away when you leave")
        # A terminal of its own; BatchMode only matters before the login.
        subprocess.run(machine.ssh("-t"), check=False)


def clean() -> None:
    """Remove build/ and the role tests' containers and images; stop what a killed run left running."""
    for folder in (BUILD / "run").glob("*/"):
        with workspace(folder.name):
            pass
    with workspace("ami") as folder:
        others = remove_all_noted(folder)
    if others:
        where = ", ".join(f"{run.id} in account {run.account}, {run.region}" for run in others)
        raise FactoryError(
            f"{folder} notes what may still run on EC2, and cost: {where}",
            "Run it again with credentials of that account; where you have seen that nothing is left there,"
            " delete the note",
        )
    subprocess.run(["podman", "rmi", "--force", "--ignore", MOLECULE_IMAGE], check=False)
    unmount_below(BUILD)  # nothing is deleted within a mount
    left: list[str] = []
    if BUILD.exists():
        # The reason comes from whatever could not be removed; the folders above it are not worth telling.
        shutil.rmtree(BUILD, onerror=lambda _call, _path, error: left.append(str(error[1])))
    if left:
        raise FactoryError(f"could not remove all of {BUILD}: {left[0]}", "Free what it names; make clean")


COMMANDS = {
    "rootfs": base,
    "image": image,
    "demo": demo,
    "ssh": ssh,
    "ami": ami,
    "ami-clean": ami_clean,
    "readme": readme,
    "clean": clean,
}


def main() -> None:
    """Run one command; a FactoryError is told in its own words, an interruption still takes machines down."""
    parser = argparse.ArgumentParser(prog="factory", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    chosen = COMMANDS[parser.parse_args().command]
    # A shell's background jobs ignore the first otherwise; the last comes when the terminal goes away.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        chosen()
    except FactoryError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; machines and mounts are taken down", file=sys.stderr)
        sys.exit(130)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Unwind through every clean-up on the way."""
    raise KeyboardInterrupt
