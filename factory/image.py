"""`make image`: from nothing to a disk image that boots and transcribes, with a record of what is in it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from factory import inputs, packer
from factory.basedisk import ROOT_OFFSET, make_base_disk, rootfs
from factory.console import BUILD, LOGS, FactoryError, run, say
from factory.inputs import VERSION
from factory.machine import Machine, booted, workspace
from factory.mounts import mounted


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
    made_from = inputs.fingerprint()
    if ARTIFACT.stamp.exists() and ARTIFACT.stamp.read_text() == made_from:
        say(f"{ARTIFACT.raw} is up to date (make clean to build it anew)")
        return
    for path in vars(ARTIFACT).values():
        path.unlink(missing_ok=True)
    disk = BUILD / "unfinished.raw"
    with workspace("build") as folder:
        try:
            make_base_disk(disk, folder)
            say("boot the base disk")
            with booted(disk, "image", keep=True) as machine:
                say("ssh answers")
                build_on(machine)
            finish(disk)
        finally:
            disk.unlink(missing_ok=True)
    ARTIFACT.stamp.write_text(made_from)
    sizes = ", ".join(f"{p} {p.stat().st_blocks * 512 / 1e9:.1f} GB" for p in (ARTIFACT.raw, ARTIFACT.qcow2))
    say(f"made {sizes}")


def build_on(machine: Machine) -> None:
    """Let Packer and Ansible make the image out of a booted machine."""
    facts = {
        "image_accelerator": "cpu",
        "image_source_id": rootfs().stem,
        "image_source_name": "Debian 12, by mmdebstrap",
        "image_record": str(ARTIFACT.record),
    }
    packer.build(
        "null.local",
        {
            **inputs.variables(facts, BUILD / "run/image/facts.json"),
            "manifest": str(ARTIFACT.manifest),
            "local_port": machine.port,
            "user": machine.user,
            "local_key": str(machine.key),
        },
        LOGS / "image.log",
    )


def finish(disk: Path) -> None:
    """Turn the disk that was built on into the artifact: drop free blocks, check, convert."""
    say("finish: drop free blocks, check the file system")
    with mounted(disk, BUILD / "run/build/disk", ROOT_OFFSET) as root:
        run("fstrim", root)
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
    features = run("dumpe2fs", "-h", f"{disk}?offset={ROOT_OFFSET}")
    if done.returncode or "needs_recovery" in features:  # which e2fsck -n does not count as damage
        raise FactoryError(f"the image's file system is damaged:\n{done.stdout}", "Run: make clean image")
