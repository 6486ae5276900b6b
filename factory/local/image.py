"""`make image`: build a disk image that boots and transcribes, with a record of what is in it."""

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from factory import inputs, packer
from factory.console import BUILD, LOGS, FactoryError, run, say
from factory.inputs import VERSION
from factory.local.basedisk import ROOT_OFFSET, make_base_disk, rootfs
from factory.local.host import check_loop_devices, check_programs_run, room
from factory.local.machine import booted
from factory.local.mounts import mounted
from factory.ssh import Machine
from factory.workspace import SCRATCH, workspace


@dataclass(frozen=True)
class Artifact:
    """The files of one build, side by side in build/."""

    raw: Path
    qcow2: Path
    manifest: Path
    record: Path
    stamp: Path


IMAGE_BYTES = 15e9  # needed: raw and qcow2 with the tests' model, 6.8 GB each, and the base system

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
    if is_made_from(made_from):
        say(f"{ARTIFACT.raw} is up to date (run make clean first to build it again)")
        return
    with ExitStack() as stack:
        folder = stack.enter_context(workspace("build"))
        with workspace("image"):
            pass  # removes the machine of a killed run first
        stack.enter_context(room(BUILD, IMAGE_BYTES))
        check_programs_run(BUILD)
        check_loop_devices()
        unfinished = Artifact(**{name: folder / SCRATCH / name for name in vars(ARTIFACT)})
        make_base_disk(unfinished.raw, folder)
        say("boot the base disk")
        with booted(unfinished.raw, "image", keep=True) as machine:
            say("ssh answers")
            build_on(machine, unfinished)
        finish(unfinished)
        unfinished.stamp.write_text(made_from)
        replace(unfinished)
    sizes = ", ".join(f"{p} {p.stat().st_blocks * 512 / 1e9:.1f} GB" for p in (ARTIFACT.raw, ARTIFACT.qcow2))
    say(f"made {sizes}")


def is_made_from(made_from: str) -> bool:
    """Whether all files exist and were made from these inputs, as the stamp says (see `replace`)."""
    whole = all(path.exists() for path in vars(ARTIFACT).values())
    return whole and ARTIFACT.stamp.read_text() == made_from


def replace(finished: Artifact) -> None:
    """Replace the previous build, its stamp last: if that is missing, the image is built again."""
    ARTIFACT.stamp.unlink(missing_ok=True)
    for name in ("raw", "qcow2", "manifest", "record", "stamp"):
        getattr(finished, name).rename(getattr(ARTIFACT, name))


def build_on(machine: Machine, files: Artifact) -> None:
    """Let Packer and Ansible turn a booted machine into the image."""
    facts = {
        "image_accelerator": "cpu",
        "image_source_id": rootfs().stem,
        "image_source_name": "Debian 12, by mmdebstrap",
        "image_record": str(files.record),
    }
    packer.build(
        "null.local",
        {
            **inputs.variables(facts, BUILD / "run/image/facts.json"),
            "manifest": str(files.manifest),
            "local_port": machine.port,
            "user": machine.user,
            "local_key": str(machine.key),
        },
        LOGS / "image.log",
    )


def finish(files: Artifact) -> None:
    """Turn the builder's disk into the files that ship: discard free blocks, check, convert to qcow2."""
    disk = files.raw
    say("finish: drop free blocks, check the file system")
    with mounted(disk, BUILD / "run/build/disk", ROOT_OFFSET) as root:
        run("fstrim", root)
    check_file_system(disk)
    say("convert to qcow2")
    run("qemu-img", "convert", "-O", "qcow2", "-W", disk, files.qcow2)


def check_file_system(disk: Path) -> None:
    """FactoryError if e2fsck finds an error: after a clean shutdown there must be none."""
    done = subprocess.run(
        ["e2fsck", "-f", "-n", f"{disk}?offset={ROOT_OFFSET}"], capture_output=True, text=True, check=False
    )
    features = run("dumpe2fs", "-h", f"{disk}?offset={ROOT_OFFSET}")
    if done.returncode or "needs_recovery" in features:  # unclean shutdown: e2fsck -n ignores it
        raise FactoryError(f"the image's file system is damaged:\n{done.stdout}", "Run: make clean image")
