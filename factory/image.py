"""`make image`: from nothing to a disk image that boots and transcribes, with a record of what is in it."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from factory import packer
from factory.basedisk import ROOT_OFFSET, make_base_disk, rootfs
from factory.console import BUILD, LOGS, ROOT, FactoryError, run, say
from factory.machine import Machine, booted, workspace
from factory.mounts import mounted

VERSION = (ROOT / "runtime/VERSION").read_text().strip()
DEFAULT_VARS = "ansible/models/whisper-nato.yml"

# What the image is made from: when none of it has changed, the image that is there is the image.
INPUTS = ("ansible", "factory", "packer", "runtime", "tests/fixtures/samples", "tests/fixtures/whisper-nato")


@dataclass(frozen=True)
class Artifact:
    """The files of one build, side by side in build/."""

    raw: Path
    qcow2: Path
    manifest: Path
    record: Path
    stamp: Path


ARTIFACT = Artifact(
    raw=BUILD / f"preheat-{VERSION}.raw",
    qcow2=BUILD / f"preheat-{VERSION}.qcow2",
    manifest=BUILD / "manifest.json",
    record=BUILD / "image.json",
    stamp=BUILD / f"preheat-{VERSION}.inputs",
)


def image() -> None:
    """Build the local disk image, unless the one in build/ was made from the same inputs."""
    inputs = fingerprint()
    if ARTIFACT.stamp.exists() and ARTIFACT.stamp.read_text() == inputs:
        say(f"{ARTIFACT.raw} is up to date (make clean to build it anew)")
        return
    for path in vars(ARTIFACT).values():
        path.unlink(missing_ok=True)
    disk = BUILD / "unfinished.raw"
    with workspace("build"):
        try:
            make_base_disk(disk)
            say("boot the base disk")
            with booted(disk, "image", keep=True) as machine:
                say("ssh answers")
                build_on(machine)
            finish(disk)
        finally:
            disk.unlink(missing_ok=True)
    ARTIFACT.stamp.write_text(inputs)
    sizes = ", ".join(f"{p} {p.stat().st_blocks * 512 / 1e9:.1f} GB" for p in (ARTIFACT.raw, ARTIFACT.qcow2))
    say(f"made {sizes}")


def build_on(machine: Machine) -> None:
    """Let Packer and Ansible make the image out of a booted machine."""
    facts = BUILD / "run/image/facts.json"
    facts.write_text(json.dumps(build_facts(), indent=2))
    packer.build(
        "null.local",
        {
            "version": VERSION,
            "git_commit": git_commit(),
            "facts_file": str(facts),
            "vars_file": str((ROOT / vars_file()).resolve()),
            "manifest": str(ARTIFACT.manifest),
            "local_port": machine.port,
            "local_user": machine.user,
            "local_key": str(machine.key),
        },
        LOGS / "image.log",
    )


def build_facts() -> dict[str, object]:
    """The Ansible variables that only the build host knows."""
    return {
        "image_accelerator": "cpu",
        "image_git_commit": git_commit(),
        "image_source_id": rootfs().stem,
        "image_source_name": "Debian 12, by mmdebstrap",
    }


def finish(disk: Path) -> None:
    """Turn the disk that was built on into the artifact: drop free blocks, check, convert."""
    say("finish: read the record, drop free blocks, check the file system")
    with mounted(disk, BUILD / "run/build/disk", ROOT_OFFSET) as root:
        record = (root / "opt/transcribe/image.json").read_text()
        run("fstrim", root)
    ARTIFACT.record.write_text(record)
    check_file_system(disk)
    say("convert to qcow2")
    part = ARTIFACT.qcow2.with_suffix(".part")
    run("qemu-img", "convert", "-O", "qcow2", "-W", disk, part)
    part.rename(ARTIFACT.qcow2)
    disk.rename(ARTIFACT.raw)


def check_file_system(disk: Path) -> None:
    """FactoryError if e2fsck finds anything: the machine was shut down in order, so it must be clean."""
    done = subprocess.run(
        ["e2fsck", "-f", "-n", f"{disk}?offset={ROOT_OFFSET}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FactoryError(f"the image's file system is damaged:\n{done.stdout}", "Run: make clean image")


def vars_file() -> str:
    """The Ansible variables file that says what to bake: $VARS, else the small model of the tests."""
    chosen = os.environ.get("VARS") or DEFAULT_VARS
    if not (ROOT / chosen).is_file():
        raise FactoryError(
            f"VARS={chosen}: no such file", f"Name an Ansible variables file such as {DEFAULT_VARS}"
        )
    return chosen


def git_commit() -> str:
    """The commit checked out, with `-dirty` when files differ from it; `unknown` outside a checkout."""
    done = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def fingerprint() -> str:
    """A digest of every file that the image is made from, and of the variables file."""
    digest = hashlib.sha256()
    files = [path for folder in INPUTS for path in (ROOT / folder).rglob("*")]
    for path in sorted([*files, ROOT / vars_file()]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(os.path.relpath(path, ROOT).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
