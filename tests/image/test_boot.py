"""The published qcow2 under QEMU: firmware, boot loader, kernel and initial ram disk, up to a login."""

from pathlib import Path

from factory.inputs import VERSION
from factory.local.emulator import emulated
from factory.local.image import ARTIFACT


def test_boots_with_uefi_firmware(disk: Path) -> None:
    with emulated(ARTIFACT.qcow2, "test-qemu") as machine:
        assert machine.run("transcribe --version").split()[1] == VERSION
        assert machine.run("test -d /sys/firmware/efi && echo uefi").strip() == "uefi"
