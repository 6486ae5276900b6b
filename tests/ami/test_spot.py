"""Spot instances: the checks beforehand, and what Packer's plugin may leave behind."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from factory.console import FactoryError
from factory.ec2 import builder, rehearsal
from factory.ec2.builder import remove
from factory.ec2.notes import Run
from factory.ec2.preflight import Plan
from factory.ec2.rehearsal import rehearse
from factory.ec2.settings import Settings, read_settings
from tests.ami.calls import ACCOUNT
from tests.ami.cloud import BUILDER, HOME, Cloud, Refusal

PLAN = Plan("preheat-0.1.0", ACCOUNT, "0", {"ImageId": "ami-0deb1a00000000012"}, [("g6.xlarge", "subnet-1")])
ASKED = {"ec2:RunInstances", "ec2:CreateLaunchTemplate", "ec2:CreateFleet"}


@pytest.fixture
def settings(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The defaults, with the cloud in AWS's place."""
    monkeypatch.delenv("SETTINGS", raising=False)
    for module in (builder, rehearsal):
        monkeypatch.setattr(module, "client", partial(cloud.client, access_key=BUILDER))
    return read_settings()


@pytest.mark.parametrize(("spot", "asked"), [(False, {"ec2:RunInstances"}), (True, ASKED)])
def test_ec2_is_asked_whether_it_would(cloud: Cloud, settings: Settings, spot: bool, asked: set[str]) -> None:
    rehearse(PLAN, replace(settings, spot=spot))
    assert {request.action for request in cloud.requests} == asked
    assert all(request.rehearsed for request in cloud.requests)
    market = cloud.requests[0].parameters.get("InstanceMarketOptions.MarketType")
    assert market == ("spot" if spot else None)


@pytest.mark.parametrize("action", sorted(ASKED))
def test_what_ec2_would_refuse_is_told_in_its_words(cloud: Cloud, settings: Settings, action: str) -> None:
    cloud.before[f"{action} DryRun"] = lambda _: Refusal("UnauthorizedOperation", "by no policy", 403)
    with pytest.raises(FactoryError, match=r"not allowed to do .*by no policy"):
        rehearse(PLAN, replace(settings, spot=True))


def test_a_fleet_may_miss_the_template_that_is_not_there(cloud: Cloud, settings: Settings) -> None:
    cloud.before["ec2:CreateFleet DryRun"] = lambda _: Refusal("InvalidLaunchTemplateName.NotFoundException")
    rehearse(PLAN, replace(settings, spot=True))


@pytest.mark.parametrize("spot", [False, True])
def test_a_profile_that_may_not_be_passed_is_told(cloud: Cloud, settings: Settings, spot: bool) -> None:
    asked = replace(settings, iam_instance_profile="builder", spot=spot)
    with pytest.raises(FactoryError, match=r"not allowed to do .*iam:PassRole"):
        rehearse(PLAN, asked)
    cloud.denied.clear()
    cloud.granted.append(
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/builder"}
    )
    cloud.requests.clear()
    rehearse(PLAN, asked)
    named = [
        value for request in cloud.requests for key, value in request.parameters.items() if "Profile" in key
    ]
    assert named == ["builder"] * (2 if spot else 1)


def test_a_template_that_somebody_removes_meanwhile_is_no_error(cloud: Cloud, settings: Settings) -> None:
    """In any case instances, which cost money, are terminated before templates are removed."""
    cloud.client("ec2").create_launch_template(
        LaunchTemplateName="packer-fleet-launch-template-aaaaaaa", LaunchTemplateData={"ImageId": "ami-1"}
    )
    cloud.before["ec2:DescribeLaunchTemplateVersions"] = lambda _: Refusal("InvalidLaunchTemplateId.NotFound")
    remove(Run("preheat-1", ACCOUNT, HOME, ""))
    actions = [request.action for request in cloud.requests]
    assert actions.index("ec2:DescribeInstances") < actions.index("ec2:DescribeLaunchTemplates")


def test_a_launch_template_that_a_crash_has_left_is_removed(cloud: Cloud, settings: Settings) -> None:
    """Only the run's own, not that of a concurrent build."""
    ec2 = cloud.client("ec2")

    def left(name: str, run: str) -> None:
        tags: list[Any] = [{"ResourceType": "instance", "Tags": [{"Key": "preheat:run", "Value": run}]}]
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"TagSpecifications": tags})

    left("packer-fleet-launch-template-aaaaaaa", "preheat-1")
    left("packer-fleet-launch-template-bbbbbbb", "preheat-2")
    left("somebody-elses", "preheat-1")
    remove(Run("preheat-1", ACCOUNT, HOME, ""))
    kept = [found["LaunchTemplateName"] for found in ec2.describe_launch_templates()["LaunchTemplates"]]
    assert sorted(kept) == ["packer-fleet-launch-template-bbbbbbb", "somebody-elses"]
