"""The machine after the role `nvidia`, with stand-ins for the driver; refusals in between."""

import pytest
from testinfra.host import Host

VERSION = "580.178.04"
DRIVER = {
    "libcuda1",
    "libnvidia-ptxjitcompiler1",
    "nvidia-driver-cuda",
    "nvidia-kernel-open-dkms",
    "nvidia-kernel-support",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-smi",
}
# Options of apt-get for an upgrade without the pins, and without the holds.
NO_PINS = "-o Dir::Etc::preferencesparts=/nonexistent"
NO_HOLDS = "--ignore-hold"


def kernel(host: Host) -> str:
    """Release of the installed kernel."""
    release: str = host.check_output("basename $(readlink /vmlinuz)").removeprefix("vmlinuz-")
    return release


def installed(host: Host) -> dict[str, str]:
    """Packages with their versions."""
    lines = host.check_output(r"dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n'")
    return dict(line.split()[1:] for line in lines.splitlines() if line.startswith("installed "))


def upgrades(host: Host, options: str) -> set[str]:
    """Packages that an upgrade would touch."""
    lines = host.check_output(f"apt-get --simulate {options} dist-upgrade").splitlines()
    return {line.split()[1] for line in lines if line.startswith(("Inst ", "Remv "))}


def test_every_package_of_the_driver_has_the_one_version(host: Host) -> None:
    packages = installed(host)
    assert {name: packages.get(name) for name in DRIVER} == dict.fromkeys(DRIVER, f"{VERSION}-1")
    assert packages["libnvidia-egl-gbm1"] == "1.1.2-1"


def test_driver_and_kernel_are_held(host: Host) -> None:
    held = set(host.check_output("apt-mark showhold").split())
    assert held >= DRIVER
    assert held >= {"linux-image-cloud-amd64", f"linux-image-{kernel(host)}", f"linux-headers-{kernel(host)}"}


@pytest.mark.parametrize("options", ["", NO_PINS, NO_HOLDS])
def test_no_upgrade_touches_the_driver(host: Host, options: str) -> None:
    assert upgrades(host, options) & DRIVER == set()


def test_that_upgrade_would_touch_it_but_for_both(host: Host) -> None:
    assert upgrades(host, f"{NO_PINS} {NO_HOLDS}") >= {"libcuda1", "nvidia-kernel-open-dkms"}


def test_the_module_is_that_of_driver_and_kernel(host: Host) -> None:
    assert host.check_output(f"modinfo -k {kernel(host)} -F version nvidia") == VERSION


def test_the_headers_are_those_of_the_kernel_alone(host: Host) -> None:
    headers = [name for name in installed(host) if name.startswith("linux-headers-") and "common" not in name]
    assert headers == [f"linux-headers-{kernel(host)}"]


def test_nouveau_is_kept_away_from_the_first_moment_on(host: Host) -> None:
    assert "blacklist nouveau" in host.check_output("/sbin/modprobe --showconfig").splitlines()
    files = host.check_output(f"lsinitramfs /boot/initrd.img-{kernel(host)}").splitlines()
    assert "etc/modprobe.d/50-preheat-nouveau.conf" in files


def test_the_persistence_daemon_runs_and_starts_at_boot(host: Host) -> None:
    service = host.service("nvidia-persistenced")
    assert service.is_running
    assert service.is_enabled


def test_the_driver_answers(host: Host) -> None:
    answer = host.check_output("nvidia-smi --query-gpu=name,driver_version --format=csv,noheader")
    assert answer == f"NVIDIA Stand-in, {VERSION}"


def test_only_this_repository_is_signed_by_its_key(host: Host) -> None:
    sources = host.file("/etc/apt/sources.list.d/nvidia.sources").content_string
    assert "URIs: file:/opt/repository/\nSuites: /\nSigned-By: /etc/apt/keyrings/nvidia.asc\n" in sources
    assert host.file("/etc/apt/keyrings/nvidia.asc").content == host.file("/opt/repository/key.pub").content


def test_the_machine_has_rebooted_and_the_certificates_were_lent_again(host: Host) -> None:
    assert not host.file("/run/older-kernel").exists
    assert host.file("/run/preheat/ca.crt").exists


def test_the_machine_has_rebooted_since_the_driver_was_installed(host: Host) -> None:
    booted = int(host.check_output("date +%s")) - int(host.check_output("ps -o etimes= -p 1"))
    assert int(host.check_output("stat -c %Y /var/lib/dpkg/info/nvidia-modprobe.list")) <= booted


def test_the_kernel_is_the_newest_that_the_distribution_has(host: Host) -> None:
    policy = host.check_output("apt-cache policy linux-image-cloud-amd64").split()
    assert policy[policy.index("Installed:") + 1] == policy[policy.index("Candidate:") + 1]
    assert "6.1.0-1-" not in kernel(host)


def test_no_key_and_no_temporary_file_is_left(host: Host) -> None:
    for path in ("/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub", "/run/preheat-key", "/root/.gnupg"):
        assert not host.file(path).exists, path
