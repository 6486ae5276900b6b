"""Settings that are refused or combined before Packer and AWS are called; all in this process."""

import shutil
from dataclasses import replace
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from factory import packer
from factory.console import FactoryError
from factory.ec2 import settings
from factory.ec2.deadline import UNIT
from factory.ec2.settings import Settings, read_settings
from factory.ec2.startup import LIMIT, user_data


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SETTINGS", "")
    return read_settings()


def chosen(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> Path:
    """A file of values as AMI."""
    file = folder / "my.pkrvars.hcl"
    file.write_text(text)
    monkeypatch.setenv("SETTINGS", str(file))
    return file


def test_what_packer_reads_from_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKR_VAR_region", "eu-west-1")
    with pytest.raises(FactoryError, match="PKR_VAR_region: Packer reads this automatically") as error:
        read_settings()
    assert "make ami SETTINGS=" in str(error.value)


@pytest.mark.parametrize("name", ["my.auto.pkrvars.hcl", "my.auto.pkrvars.json"])
def test_what_packer_reads_from_its_folder_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(settings.VARIABLES, tmp_path)
    monkeypatch.setattr(settings, "VARIABLES", tmp_path / settings.VARIABLES.name)
    monkeypatch.setenv("SETTINGS", "")
    read_settings()
    (tmp_path / name).touch()
    with pytest.raises(FactoryError, match=f"{name}: Packer reads this automatically"):
        read_settings()


def test_a_private_address_needs_to_know_from_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = chosen(monkeypatch, tmp_path, 'ssh_interface = "private_ip"\n')
    with pytest.raises(FactoryError, match="ssh_interface is private_ip but ssh_cidrs is empty"):
        read_settings()
    file.write_text('ssh_interface = "private_ip"\nssh_cidrs = ["10.0.0.0/16"]\n')
    assert read_settings().ssh_cidrs == ["10.0.0.0/16"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ssh_interface = "session_manager"', "must be public_ip or private_ip"),
        ('iam_instance_profile = "arn:aws:iam::111122223333:instance-profile/x"', "not its ARN"),
    ],
)
def test_packer_refuses(text: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = chosen(monkeypatch, tmp_path, text + "\n")
    with pytest.raises(FactoryError, match=says):
        packer.validate(packer.packer(), "amazon-ebs.ami", file)


MULTIPART = """\
Content-Type: multipart/mixed; boundary="mine"

--mine
Content-Type: text/x-shellscript

#!/bin/sh
--mine--
"""


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("", ["text/plain"]),
        ("#cloud-config\npackages: [jq]\n", ["text/plain", "text/plain"]),
        (MULTIPART, ["text/plain", "text/x-shellscript"]),
    ],
)
def test_user_data_is_merged_with_the_switch(
    text: str, types: list[str], defaults: Settings, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text(text)
    named = replace(defaults, user_data_file=str(tmp_path / "mine") if text else "")
    parts = [part for part in message_from_string(user_data(named)).walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == types
    first: Any = parts[0].get_payload(decode=True)
    assert first.startswith(b"#cloud-boothook\n") and UNIT.encode() in first


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"packages: [jq]\n", "cloud-init does not recognise"),
        (b"#!/bin/sh\n" + b"#" * LIMIT, f"bytes of user data, EC2 allows {LIMIT}"),
    ],
)
def test_unfit_user_data_is_refused(
    content: bytes | None, says: str, defaults: Settings, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "mine").write_bytes(content)
    with pytest.raises(FactoryError, match=says):
        user_data(replace(defaults, user_data_file=str(tmp_path / "mine")))
