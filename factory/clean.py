"""`make clean`: remove what was built, and stop what a killed run has left running.

It uses only Python's standard library, so that nothing needs to be installed first.
"""

import shutil
from pathlib import Path

from factory.console import BUILD, CHECKOUT, FactoryError, carry_out, run
from factory.ec2.notes import all_in
from factory.workspace import unmount_below, workspace

MOLECULE_IMAGE = f"localhost/preheat-base-{CHECKOUT}"  # the name in molecule/podman.yml


def clean() -> None:
    """Remove build/ and the role tests' containers and images; stop what a killed run left running."""
    for folder in (BUILD / "run").glob("*/"):
        with workspace(folder.name):
            pass
    with workspace("ami") as folder:
        if all_in(folder):
            remove_noted(folder)
    unmount_below(BUILD)  # so that rmtree deletes nothing inside a mount
    left: list[str] = []

    def keep(_call: object, path: str, error: tuple[object, ...]) -> None:
        """Note why a path could not be removed. A mount point at BUILD itself is meant to stay."""
        if Path(path) != BUILD or not BUILD.is_mount():
            left.append(str(error[1]))

    shutil.rmtree(BUILD, onerror=keep)
    if left:  # the first entry is the cause, the folders above it follow
        raise FactoryError(
            f"could not remove all of {BUILD}: {left[0]}", "Stop what uses it, then run: make clean"
        )
    if shutil.which("podman"):
        run("podman", "rmi", "--force", "--ignore", MOLECULE_IMAGE)


def remove_noted(folder: Path) -> None:
    """Remove from EC2 what the notes in a folder name; FactoryError if some of it remains."""
    try:
        from factory.ec2.builder import remove_all_noted  # noqa: PLC0415
    except ImportError as error:
        raise FactoryError(
            f"{folder} lists resources that may still run on EC2 and cost money; "
            f"they cannot be removed from here: {error}",
            "Run: make setup-ami clean",
        ) from error
    if others := remove_all_noted(folder):
        where = ", ".join(f"{run.id} in account {run.account}, {run.region}" for run in others)
        raise FactoryError(
            f"{folder} lists resources that may still run on EC2 and cost money: {where}",
            "Run it again with credentials of that account, or delete the note if nothing is left there",
        )


if __name__ == "__main__":
    carry_out(clean)
