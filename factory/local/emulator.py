"""The disk image under QEMU with UEFI firmware: tests that boot loader, kernel and initial RAM disk work.

KVM is used if it can run a stock kernel, else emulation. The disk image itself is never written to.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.console import run, say
from factory.local.machine import USER_DATA, held_port, new_machine, wait_for_ssh
from factory.ssh import Machine
from factory.workspace import mark, workspace

FIRMWARE = Path("/usr/share/ovmf/OVMF.fd")
KVM_SECONDS = 20  # a kernel that works prints its first line much sooner; one that does not hangs
BOOT_SECONDS = 900  # measured: 60 s by emulation; more on a loaded host

ACCELERATORS = {"kvm": "kvm -cpu host", "emulation": "tcg,thread=multi -cpu max"}


@contextmanager
def emulated(disk: Path, name: str, user_data: str = USER_DATA) -> Iterator[Machine]:
    """Boot a qcow2 image under QEMU and yield the machine once ssh answers; its writes are discarded."""
    with workspace(name) as folder, held_port() as port:
        machine = new_machine(folder, name, port, user_data)
        seed = make_seed_disk(folder)
        accelerator = "kvm" if kvm_runs(disk, seed, machine) else "emulation"
        say(f"QEMU boots {disk.name} by {accelerator}")
        with qemu(disk, seed, machine, accelerator) as process:
            wait_for_ssh(machine, process, BOOT_SECONDS)
            yield machine


def kvm_runs(disk: Path, seed: Path, machine: Machine) -> bool:
    """Whether a kernel starts under KVM, which an accessible /dev/kvm does not guarantee."""
    if not Path("/dev/kvm").exists():
        return False
    with qemu(disk, seed, machine, "kvm") as process:
        end = time.monotonic() + KVM_SECONDS
        while time.monotonic() < end and process.poll() is None:
            if b"Linux version" in machine.console.read_bytes():
                return True
            time.sleep(0.2)
    return False


@contextmanager
def qemu(disk: Path, seed: Path, machine: Machine, accelerator: str) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU with UEFI firmware, the serial console in a file, ssh forwarded from loopback only."""
    command = [
        "qemu-system-x86_64", "-machine", "q35", "-accel", *ACCELERATORS[accelerator].split(),
        "-smp", "2", "-m", "2048", "-bios", str(FIRMWARE), "-snapshot", "-nodefaults", "-display", "none",
        "-name", f"guest={mark(machine.console.parent)}",
        "-serial", f"file:{machine.console}",
        "-drive", f"file={disk},format=qcow2,if=virtio", "-drive", f"file={seed},format=raw,if=virtio",
        "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{machine.port}-:22",
        "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci",
    ]  # fmt: skip
    machine.console.write_bytes(b"")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=machine.console.open("ab"), start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()  # its disk is discarded, so a clean shutdown is not needed
        process.wait()


def make_seed_disk(folder: Path) -> Path:
    """The NoCloud seed as a disk: a FAT file system labelled CIDATA, where cloud-init looks for it."""
    disk = folder / "seed.img"
    disk.write_bytes(bytes(1 << 20))
    run("mkfs.vfat", "-n", "CIDATA", disk)
    run("mcopy", "-i", disk, *(folder / "seed").iterdir(), "::")
    return disk
