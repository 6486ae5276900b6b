"""Publishing an existing AMI, in this process: who may launch it."""

from pathlib import Path
from typing import Any

import pytest

from factory.ec2 import publish
from factory.ec2.report import Report
from factory.ec2.settings import Settings, read_settings
from tests.ami.cloud import HOME, Cloud
from tests.ami.command import PARTNER

NO_RECORD = Path(__file__).with_name("none.json")


@pytest.fixture
def settings(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The defaults, and credentials for the cloud."""
    for name, value in {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "SETTINGS": "",
    }.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def published(cloud: Cloud, settings: Settings, *grants: dict[str, str]) -> tuple[list[Any], str]:
    """Publish an AMI that already has these grants; returns its grants afterwards, and the table."""
    ec2 = cloud.client("ec2")
    made = ec2.copy_image(Name="preheat-1", SourceImageId="ami-0deb1a00000000012", SourceRegion=HOME)
    if grants:
        ec2.modify_image_attribute(ImageId=made["ImageId"], LaunchPermission={"Add": list(grants)})
        cloud.requests.clear()
    report = Report()
    publish.publish("preheat-1", settings, NO_RECORD, report)
    asked = ec2.describe_image_attribute(ImageId=made["ImageId"], Attribute="launchPermission")
    (told,) = [line.result for line in report.lines if line.step == "share"]
    return asked["LaunchPermissions"], told


def test_an_ami_that_was_made_public_is_private_when_it_is_called_so(
    cloud: Cloud, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(cloud, settings, {"Group": "all"}, {"UserId": PARTNER}) == ([], "private")
    assert (
        f"is no longer shared with all, {PARTNER}, which share_with does not list" in capsys.readouterr().err
    )


def test_an_ami_that_nobody_shares_is_left_alone(cloud: Cloud, settings: Settings) -> None:
    assert published(cloud, settings) == ([], "private")
    modified = cloud.calls("ec2:ModifyImageAttribute")
    assert not [request for request in modified if "ImdsSupport.Value" not in request.parameters]
