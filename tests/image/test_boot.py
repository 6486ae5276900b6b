"""The qcow2 under QEMU: firmware, boot loader, kernel, initial ram disk, and a first boot as on EC2.

One boot serves all tests, as it takes two minutes in emulation: on a larger disk, with a script as user data.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from factory.console import run
from factory.inputs import VERSION
from factory.local.emulator import emulated
from factory.local.image import ARTIFACT
from factory.ssh import Machine

GIB = 1 << 30
SCRIPT = "#!/bin/sh\nid -un >/run/user-data-was-here\n"

# Runs cloud-init's ds-identify on DMI data like EC2's. It writes its findings to a file.
ASK_ON_EC2 = """
cd $(mktemp -d); mkdir dmi; : >cmdline
echo "Amazon EC2" >dmi/sys_vendor
echo ec2e1916-9099-7caf-fd21-012345abcdef | tee dmi/product_uuid >dmi/product_serial
sudo env PATH_SYS_CLASS_DMI_ID=$PWD/dmi PATH_PROC_CMDLINE=$PWD/cmdline PATH_DEV_DISK=$PWD PATH_RUN=$PWD \
  /usr/lib/cloud-init/ds-identify --force >&2
cat cloud-init/cloud.cfg
"""


@pytest.fixture(scope="module")
def machine(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The qcow2 on a disk of 20 GiB, booted."""
    larger = tmp_path_factory.mktemp("larger") / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", ARTIFACT.qcow2, larger, "20G")
    with emulated(larger, "test-qemu", SCRIPT) as machine:
        machine.run("cloud-init status --wait")
        yield machine


def test_boots_with_uefi_firmware(machine: Machine) -> None:
    assert machine.run("transcribe --version").split()[1] == VERSION
    assert machine.run("test -d /sys/firmware/efi && echo uefi").strip() == "uefi"


def test_the_root_file_system_grows(machine: Machine) -> None:
    assert int(machine.run("df --output=size --block-size=1 / | tail -1")) > 19 * GIB


def test_user_data_is_honoured(machine: Machine) -> None:
    assert machine.run("cat /run/user-data-was-here") == "root\n"


def test_keys_and_identity_are_its_own(machine: Machine) -> None:
    """They are generated at boot: the disk ships without them (test_hygiene.py)."""
    keys = machine.run("cd /etc/ssh && ls ssh_host_*_key").split()
    assert keys == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key"]
    assert len(machine.run("cat /etc/machine-id").strip()) == 32


def test_cloud_init_would_know_ec2(machine: Machine) -> None:
    """And ask it first; the seed's disk, which no instance has, makes it find NoCloud, too."""
    assert machine.run(ASK_ON_EC2).startswith("datasource_list: [ Ec2, ")


def test_no_timer_makes_up_for_the_time_since_the_build(machine: Machine) -> None:
    """A persistent timer with an old time stamp would start at boot, during the first transcription."""
    ran = machine.run("systemctl list-timers --all --output=json-pretty | grep -c '\"last\" : [1-9]' || true")
    assert int(ran) == 0
