"""The system after the role `base`."""

import pytest
from testinfra.host import Host


@pytest.mark.parametrize(
    "unit",
    [
        *("apt-daily.timer", "apt-daily.service", "apt-daily-upgrade.timer", "apt-daily-upgrade.service"),
        *("dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    ],
)
def test_what_is_not_needed_cannot_start(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_masked
    assert not service.is_running


def test_unattended_upgrades_is_gone(host: Host) -> None:
    assert not host.package("unattended-upgrades").is_installed


def test_the_journal_is_limited(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=200M" in settings.split()
    assert host.service("systemd-journald").is_running


def test_the_login_message_names_the_command(host: Host) -> None:
    motd = host.file("/etc/motd")
    assert "transcribe /opt/transcribe/sample.flac" in motd.content_string
    assert motd.mode == 0o644


def test_certificate_authorities_are_there(host: Host) -> None:
    assert host.file("/etc/ssl/certs/ca-certificates.crt").size > 0


def test_sshd_takes_keys_only(host: Host) -> None:
    settings = host.check_output("sshd -T").splitlines()
    assert "passwordauthentication no" in settings
    assert "kbdinteractiveauthentication no" in settings
