"""Calls that AWS answers with success although the work is not done, or not yet."""

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from factory.console import FactoryError
from factory.ec2 import images, publish
from tests.ami.cloud import HOME, Cloud, Refusal, Request

IMAGE = {"ImageId": "ami-0aaaaaaaaaaaaaaaa", "State": "available"}


@pytest.fixture
def publication(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> publish.Publication:
    """A Publication with short waits."""
    monkeypatch.setattr(publish, "client", cloud.client)
    monkeypatch.setattr(publish, "PAUSE", 0)
    settings: Any = SimpleNamespace(ssm_parameter="/preheat/ami")
    report: Any = None
    return publish.Publication(settings, IMAGE, {}, report)


def current(cloud: Cloud) -> str:
    """The parameter's value."""
    value: str = cloud.client("ssm").get_parameter(Name="/preheat/ami")["Parameter"]["Value"]
    return value


def test_a_parameter_that_is_set_later_is_waited_for(cloud: Cloud, publication: publish.Publication) -> None:
    """SSM validates the AMI only after it has answered."""
    put: list[Request] = []

    def answer_only(request: Request) -> str | None:
        put.append(request)
        return '{"Version": 1, "Tier": "Standard"}'

    def set_after_a_while(_request: Request) -> None:
        if put and len(cloud.calls("ssm:GetParameter")) > 3:
            (asked,) = put
            put.clear()
            cloud.before.clear()
            cloud.client("ssm").put_parameter(**asked.parameters)

    cloud.before["ssm:PutParameter"] = answer_only
    cloud.before["ssm:GetParameter"] = set_after_a_while
    publication.set_parameter(HOME, IMAGE)
    assert current(cloud) == IMAGE["ImageId"]


@pytest.mark.parametrize("before", ["", "ami-0123456789abcdef0"])
def test_a_parameter_that_is_never_set_is_an_error(
    cloud: Cloud, publication: publish.Publication, before: str
) -> None:
    if before:
        cloud.client("ssm").put_parameter(Name="/preheat/ami", Value=before, Type="String")
    cloud.before["ssm:PutParameter"] = lambda _: '{"Version": 2, "Tier": "Standard"}'
    with pytest.raises(FactoryError, match="has not set it"):
        publication.set_parameter(HOME, IMAGE)


def deregistered(code: str) -> str:
    """EC2's answer to DeregisterImage with this result for the snapshot."""
    return (
        '<DeregisterImageResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><return>true</return>'
        "<deleteSnapshotResultSet><item><snapshotId>snap-1</snapshotId>"
        f"<returnCode>{code}</returnCode></item></deleteSnapshotResultSet></DeregisterImageResponse>"
    )


@pytest.mark.parametrize("code", ["missing-permissions", "internal-error", "client-error"])
def test_a_snapshot_that_has_stayed_is_deleted_on_its_own(cloud: Cloud, code: str) -> None:
    """If that fails, the message has EC2's reason."""
    cloud.before["ec2:DeregisterImage"] = lambda _: deregistered(code)
    cloud.before["ec2:DeleteSnapshot"] = lambda _: Refusal("SnapshotLocked")
    with pytest.raises(ClientError, match="SnapshotLocked"):
        images.remove(cloud.client("ec2"), IMAGE)
    assert [request.parameters["SnapshotId"] for request in cloud.calls("ec2:DeleteSnapshot")] == ["snap-1"]


@pytest.mark.parametrize(
    ("code", "says"), [("skipped", "snap-1 is kept: another AMI uses it"), ("success", "")]
)
def test_a_snapshot_that_may_stay_does(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], code: str, says: str
) -> None:
    cloud.before["ec2:DeregisterImage"] = lambda _: deregistered(code)
    images.remove(cloud.client("ec2"), IMAGE)
    assert cloud.calls("ec2:DeleteSnapshot") == []
    assert says in capsys.readouterr().err
