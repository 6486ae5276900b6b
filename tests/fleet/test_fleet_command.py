"""`make fleet`, `fleet-status` and `fleet-remove` against moto, with the permissions of their policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ami.cloud import Cloud
from tests.fleet.deployer import Deployer, aws, prepare

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


@pytest.fixture(scope="module")
def server() -> Iterator[Cloud]:
    """moto's server, for all tests here."""
    with aws() as cloud:
        yield cloud


@pytest.fixture
def deployer(
    server: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Deployer]:
    """An account with an AMI; fails if a test has asked for more than the policy allows."""
    server.reset()
    prepare(server, monkeypatch, tmp_path / "my.yml")
    yield Deployer(server, tmp_path / "my.yml", capsys)
    assert server.denied == []


def test_a_fleet_comes_changes_and_goes(deployer: Deployer) -> None:
    printed = deployer.run()
    assert "add     Group" in printed
    made = deployer.outputs()
    assert f"try it: aws s3 cp talk.mp3 {made['InputLocation']}" in printed
    assert made["QueueUrl"] in printed

    printed = deployer.run()
    assert "no changes" in printed and made["QueueUrl"] in printed
    assert len(deployer.cloud.calls("cloudformation:ExecuteChangeSet")) == 1

    deployer.settings["MaxInstances"] = 5
    deployer.run()
    assert len(deployer.cloud.calls("cloudformation:ExecuteChangeSet")) == 2
    (group,) = deployer.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["AutoScalingGroupName"], group["MaxSize"]) == ("preheat-test", 5)

    bucket = made["InputBucket"]
    deployer.cloud.client("s3").put_object(Bucket=bucket, Key="recordings/talk.mp3", Body=b"talk")
    printed = deployer.run("fleet-remove")
    assert f"aws s3 rb s3://{bucket} --force" in printed
    assert deployer.cloud.client("s3").head_object(Bucket=bucket, Key="recordings/talk.mp3")
    assert deployer.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert "has no stack preheat-test" in deployer.run("fleet-remove")
