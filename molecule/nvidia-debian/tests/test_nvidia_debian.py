"""The machine after the role `nvidia`, with Debian's own driver, built by dkms."""

from testinfra.host import Host

VERSION = "535.261.03"


def test_dkms_has_built_the_driver_for_the_installed_kernel_alone(host: Host) -> None:
    kernel = host.check_output("basename $(readlink /vmlinuz)").removeprefix("vmlinuz-")
    assert host.check_output("dkms status") == f"nvidia-current/{VERSION}, {kernel}, x86_64: installed"
    for module in ("nvidia-current", "nvidia-current-uvm"):
        assert host.check_output(f"modinfo -k {kernel} -F version {module}") == VERSION
        assert host.check_output(f"modinfo -k {kernel} -F vermagic {module}").split()[0] == kernel


def test_that_kernel_is_the_newest_that_the_distribution_has(host: Host) -> None:
    policy = host.check_output("apt-cache policy linux-image-cloud-amd64").split()
    assert policy[policy.index("Installed:") + 1] == policy[policy.index("Candidate:") + 1]


def test_the_driver_is_held(host: Host) -> None:
    held = set(host.check_output("apt-mark showhold").split())
    assert held >= {"linux-image-cloud-amd64", "nvidia-kernel-dkms", "nvidia-modprobe", "nvidia-smi"}


def test_nothing_signs_modules_with_a_key_of_the_image(host: Host) -> None:
    assert not host.file("/var/lib/dkms/mok.key").exists
