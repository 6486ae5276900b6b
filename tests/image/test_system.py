"""The booted artifact as a system: it is up, closed to strangers, and matches its image.json."""

import json
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from factory.ec2.deadline import UNIT

HOME = "/opt/transcribe"


def test_every_unit_started(host: Host) -> None:
    assert host.run("systemctl is-system-running --wait").stdout.strip() == "running", host.run(
        "systemctl --failed"
    ).stdout


@pytest.mark.parametrize("name", ["ssh", "cloud-init", "systemd-networkd"])
def test_service_is_enabled(host: Host, name: str) -> None:
    assert host.service(name).is_enabled


def test_something_sets_the_clock(host: Host) -> None:
    assert host.service("systemd-timesyncd").is_enabled or host.service("chrony").is_enabled


def test_resolver_is_enabled(root: Path) -> None:
    """On the disk: the local machine masks it, because the resolver it uses is the host's."""
    assert (root / "etc/systemd/system/sysinit.target.wants/systemd-resolved.service").is_symlink()


@pytest.mark.parametrize("kind", ["timer", "service"])
@pytest.mark.parametrize("name", ["apt-daily", "apt-daily-upgrade"])
def test_nothing_upgrades_behind_the_users_back(host: Host, name: str, kind: str) -> None:
    assert host.service(f"{name}.{kind}").is_masked


def test_admin_has_sudo_and_no_password(host: Host) -> None:
    with host.sudo():
        assert host.user("admin").password in {"!", "*", "!*"}
        assert host.run("id -un").stdout.strip() == "root"


def test_nothing_ends_the_machine_at_a_deadline(host: Host) -> None:
    """The builder's dead-man's switch is gone; checked over ssh, as an AMI's disk cannot be read."""
    found = host.run(
        f"systemctl list-unit-files --no-legend {UNIT}; systemctl list-units --all --no-legend {UNIT}"
    )
    assert (found.stdout, found.stderr) == ("", "")


def test_its_own_name_resolves(host: Host) -> None:
    """Even though /etc/hosts on the disk lacks it; otherwise sudo would warn and wait for a name server."""
    assert host.run("getent hosts $(hostname)").rc == 0
    assert host.run("sudo true").stderr == ""


def test_baking_user_cannot_log_in(host: Host) -> None:
    assert host.user("transcribe").shell == "/usr/sbin/nologin"
    with host.sudo():
        assert host.user("transcribe").password in {"!", "*"}


def test_no_password_opens_ssh(host: Host) -> None:
    with host.sudo():
        settings = host.run("sshd -T").stdout.splitlines()
    assert "passwordauthentication no" in settings
    assert "permitrootlogin without-password" in settings or "permitrootlogin no" in settings


@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/usr/local/bin/transcribe", "root", 0o755),
        (f"{HOME}/runtime/transcribe.py", "root", 0o644),
        (f"{HOME}/image.json", "root", 0o644),
        (f"{HOME}/THIRD-PARTY-LICENCES.txt", "root", 0o644),
        (f"{HOME}/sample.flac", "root", 0o644),
        (f"{HOME}/venv/bin/python", "root", 0o755),
    ],
)
def test_owner_and_mode(host: Host, path: str, user: str, mode: int) -> None:
    file = host.file(host.run(f"readlink -f {path}").stdout.strip())
    assert (file.user, file.mode) == (user, mode)


def test_users_can_write_nothing_below_home(host: Host) -> None:
    found = host.run(f"find {HOME} -writable -not -type l").stdout
    assert found == ""


def test_only_runtime_files_are_in_runtime(host: Host) -> None:
    known = "-name '*.py' -o -name '*.pyc' -o -name VERSION -o -name py.typed"
    assert host.run(f"find {HOME}/runtime -type f -not \\( {known} \\)").stdout == ""


def test_anybody_can_import_the_package(host: Host) -> None:
    found = host.check_output(f"cd / && {HOME}/venv/bin/python -c 'import preheat; print(preheat.__file__)'")
    assert found == f"{HOME}/runtime/preheat/__init__.py"


def test_record_is_the_one_on_the_image(host: Host, record: dict[str, Any]) -> None:
    assert json.loads(host.file(f"{HOME}/image.json").content_string) == record


def test_licences_of_all_packages_are_where_the_record_says(host: Host, record: dict[str, Any]) -> None:
    licences = host.file(record["licences"]).content_string
    lock = host.file(f"{HOME}/venv/requirements.txt").content_string
    packages = [line.split()[0].split("==") for line in lock.splitlines() if line[:1].isalnum()]
    assert len(packages) > 50
    assert [name for name, version in packages if f"\n{name} {version}\n" not in licences] == []
    of_av = licences.split("\nav ")[1].split("\ncffi ")[0]
    assert host.file("/usr/share/common-licenses/GPL-3").content_string.rstrip() in of_av


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_package_is_the_one_recorded(host: Host, record: dict[str, Any], package: str) -> None:
    printed = host.run(f"{HOME}/venv/bin/python -c 'import {package}; print({package}.__version__)'")
    assert printed.stdout.strip() == record[package]


def test_python_is_the_distributions(host: Host, record: dict[str, Any]) -> None:
    assert host.run(f"readlink -f {HOME}/venv/bin/python").stdout.strip() == "/usr/bin/python3.11"
    assert (
        host.run(
            f"{HOME}/venv/bin/python -c 'import platform; print(platform.python_version())'"
        ).stdout.strip()
        == record["python"]
    )


def test_kernel_is_the_one_recorded(host: Host, record: dict[str, Any]) -> None:
    assert host.run("readlink -f /vmlinuz").stdout.strip() == f"/boot/vmlinuz-{record['kernel']}"


@pytest.mark.parametrize(
    ("part", "path"),
    [("model", "model/{name}/model.safetensors"), ("state", "state/{name}.safetensors")],
)
def test_weights_are_the_ones_recorded(host: Host, record: dict[str, Any], part: str, path: str) -> None:
    file = f"{HOME}/{path.format(name=record['model']['name'])}"
    assert host.run(f"sha256sum {file}").stdout.split()[0] == record[part]["sha256"]


def test_git_commit_is_recorded(record: dict[str, Any]) -> None:
    assert len(record["git_commit"].removesuffix("-dirty")) == 40


def test_python_files_are_compiled(host: Host) -> None:
    """Users cannot write there, so what is not compiled at build time would be compiled at every start."""
    torch, runtime = f"{HOME}/venv/lib/python3.11/site-packages/torch", f"{HOME}/runtime"
    for sources, compiled in ((f"{torch} -maxdepth 1", f"{torch}/__pycache__"), (runtime, runtime)):
        count = int(host.run(f"find {sources} -name '*.py' | wc -l").stdout)
        assert count > 0
        assert int(host.run(f"find {compiled} -name '*.pyc' | wc -l").stdout) == count
