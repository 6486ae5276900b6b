"""Copies of the image's disk: with another model, and with the layout of an installer."""

import subprocess
from pathlib import Path

from bench.models import Models
from factory.local import mounts
from factory.local.basedisk import ROOT_OFFSET
from factory.workspace import SCRATCH

HOME = Path("opt/transcribe")
LIST = HOME / "prefetch.list"


def with_model(disk: Path, folder: Path, models: Models, name: str) -> Path:
    """A copy of a disk with a model's state file in place of the image's, and in its list."""
    state, copy = models.state(name), copied(disk, folder, name)
    with mounts.mounted(copy, folder / "disk", ROOT_OFFSET) as root:
        for old in (root / HOME / "state").iterdir():
            old.unlink()
        subprocess.run(["rm", "--recursive", root / HOME / "model"], check=True)
        path = HOME / "state" / state.name
        subprocess.run(["cp", state, root / path], check=True)
        kept = [line for line in (root / LIST).read_text().splitlines() if f"/{path.parent}/" not in line]
        (root / LIST).write_text("\n".join([*kept, f"0 {state.stat().st_size} /{path}", ""]))
    return copy


def scattered(disk: Path, folder: Path) -> Path:
    """A copy of a disk with each listed file rewritten, in alphabetical order, as by an installer."""
    copy = copied(disk, folder, "scattered")
    with mounts.mounted(copy, folder / "disk", ROOT_OFFSET) as root:
        listed = (root / LIST).read_text().splitlines()
        for path in sorted({line.split(" ", 2)[2] for line in listed if not line.startswith("#")}):
            file = root / path.lstrip("/")
            subprocess.run(["cp", "--archive", file, f"{file}.new"], check=True)
            Path(f"{file}.new").rename(file)
    return copy


def copied(disk: Path, folder: Path, name: str) -> Path:
    """A copy of a disk that goes with the workspace `folder`."""
    copy = folder / SCRATCH / f"{name}.raw"
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
    return copy
