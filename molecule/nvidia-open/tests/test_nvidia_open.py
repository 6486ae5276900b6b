"""The machine after the role `nvidia`, with the driver that ships, built by dkms."""

from pathlib import Path

import yaml
from testinfra.host import Host

NAMES = Path(__file__).parents[3] / "ansible/roles/nvidia/vars/Debian-12.yml"
VERSION = yaml.safe_load(NAMES.read_text())["__nvidia_default_version"]


def test_dkms_has_built_the_driver_for_the_newest_kernel_alone(host: Host) -> None:
    kernel = host.check_output("basename $(readlink /vmlinuz)").removeprefix("vmlinuz-")
    policy = host.check_output("apt-cache policy linux-image-cloud-amd64").split()
    assert policy[policy.index("Installed:") + 1] == policy[policy.index("Candidate:") + 1]
    assert host.check_output("dkms status") == f"nvidia/{VERSION}, {kernel}, x86_64: installed"
    for module in ("nvidia", "nvidia-uvm"):
        assert host.check_output(f"modinfo -k {kernel} -F version {module}") == VERSION
    assert host.check_output(f"modinfo -k {kernel} -F license nvidia") == "Dual MIT/GPL", "the open one"
