"""deploy/wake.py: how many instances it wants, and what it does in moto. Lambda itself is not run."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from tests.fleet.stacks import wake

wanted = wake().wanted
counts = st.integers(min_value=0, max_value=100_000)


@pytest.mark.parametrize(
    ("waiting", "in_flight", "desired", "instances", "goal"),
    [
        (0, 0, 0, 0, 0),
        (1, 0, 0, 0, 1),
        (20, 0, 0, 0, 1),
        (21, 0, 0, 0, 2),
        (15, 6, 1, 1, 2),  # what is in flight counts, too
        (10_000, 0, 0, 0, 5),
        (1, 0, 3, 3, 3),  # never below desired
        (0, 3, 3, 1, 3),
        (0, 90, 1, 1, 1),  # but alone, it needs no other instance
        (0, 0, 1, 0, 1),  # the queue's counts do not have the upload yet that woke the fleet
        (0, 0, 3, 1, 3),
        (0, 0, 1, 2, 2),  # more instances than desired: or the last to end itself would be refused
        (1, 0, 0, 3, 3),
        (0, 0, 0, 7, 5),
        (200, 0, 7, 7, 7),  # MaxSize has been lowered meanwhile
    ],
)
def test_how_many(waiting: int, in_flight: int, desired: int, instances: int, goal: int) -> None:
    assert wanted(waiting, in_flight, desired, instances, 20, 5) == goal


@given(st.tuples(counts, counts), st.tuples(counts, counts), st.integers(1, 1000), st.integers(1, 1000))
def test_it_is_never_wrong(
    backlog: tuple[int, int], capacity: tuple[int, int], per_instance: int, most: int
) -> None:
    (waiting, in_flight), (desired, instances) = backlog, capacity
    goal = wanted(waiting, in_flight, desired, instances, per_instance, most)
    assert goal <= max(desired, most)
    assert goal >= max(desired, min(most, instances), min(1, waiting))


# ---- with the group and the queue of moto

UPLOAD = {"source": "aws.s3", "detail-type": "Object Created"}
SCHEDULE = {"source": "aws.events", "detail-type": "Scheduled Event"}


class Fleet:
    """A group and a queue."""

    def __init__(self) -> None:
        self.autoscaling, self.sqs = boto3.client("autoscaling"), boto3.client("sqs")
        self.queue = self.sqs.create_queue(QueueName="fleet")["QueueUrl"]
        ec2 = boto3.client("ec2")
        self.autoscaling.create_launch_configuration(
            LaunchConfigurationName="fleet",
            ImageId=ec2.describe_images()["Images"][0]["ImageId"],
            InstanceType="g6.xlarge",
        )
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName="fleet", LaunchConfigurationName="fleet", MinSize=0, MaxSize=5,
            VPCZoneIdentifier=ec2.describe_subnets()["Subnets"][0]["SubnetId"],
            NewInstancesProtectedFromScaleIn=True,
        )  # fmt: skip

    def upload(self, number: int) -> None:
        """Put messages into the queue."""
        for _ in range(number):
            self.sqs.send_message(QueueUrl=self.queue, MessageBody="{}")

    def group(self) -> dict[str, Any]:
        """The group as it is now."""
        (found,) = self.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return dict(found)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with mock_aws():
        made = Fleet()
        for name, value in {
            "QUEUE_URL": made.queue,
            "GROUP": "fleet",
            "PER_INSTANCE": "20",
            "FLEET": "mine",
        }.items():
            monkeypatch.setenv(name, value)
        yield made


def test_the_first_upload_starts_an_instance(fleet: Fleet) -> None:
    """The queue is not asked: the message may not be there yet."""
    assert wake().handler(UPLOAD, None) == 1
    assert fleet.group()["DesiredCapacity"] == 1


def test_further_uploads_ask_for_no_more(fleet: Fleet) -> None:
    fleet.upload(100)
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    assert wake().handler(UPLOAD, None) == 2
    assert fleet.group()["DesiredCapacity"] == 2


def test_the_schedule_starts_as_many_as_the_queue_needs(fleet: Fleet) -> None:
    fleet.upload(41)
    assert wake().handler(SCHEDULE, None) == 3
    fleet.sqs.receive_message(QueueUrl=fleet.queue, MaxNumberOfMessages=10)
    assert wake().handler(SCHEDULE, None) == 3, "those in flight still count"


def test_delayed_messages_count(fleet: Fleet) -> None:
    fleet.sqs.send_message(QueueUrl=fleet.queue, MessageBody="{}", DelaySeconds=60)
    assert wake().handler(SCHEDULE, None) == 1


def test_no_cooldown_is_waited_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or Auto Scaling would refuse to start another instance for five minutes; moto never does."""
    asked: list[bool] = []

    def look(params: Any, **_: Any) -> None:
        asked.append(params["HonorCooldown"])

    hooked(monkeypatch, "before-parameter-build.auto-scaling.SetDesiredCapacity", look)
    wake().handler(UPLOAD, None)
    assert asked == [False]


def test_only_instances_in_service_are_reported(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are missing, which CapacityAlarm has to tell."""
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=3)

    def starting(parsed: Any, **_: Any) -> None:
        for instance, state in zip(
            parsed["AutoScalingGroups"][0]["Instances"], ("Pending", "Pending:Wait", "InService"), strict=True
        ):
            instance["LifecycleState"] = state

    hooked(monkeypatch, "after-call.auto-scaling.DescribeAutoScalingGroups", starting)
    assert wake().handler(SCHEDULE, None) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["Instances"], told["CapacityMissing"]) == (1, 2)


def test_an_empty_queue_ends_no_instance(fleet: Fleet) -> None:
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=2)
    assert wake().handler(SCHEDULE, None) == 2
    assert len(fleet.group()["Instances"]) == 2


def test_what_an_upload_has_asked_for_stays(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue's counts lag by up to a minute, and no instance is there yet; moto launches at once."""

    def none_yet(parsed: Any, **_: Any) -> None:
        parsed["AutoScalingGroups"][0]["Instances"] = []

    hooked(monkeypatch, "after-call.auto-scaling.DescribeAutoScalingGroups", none_yet)
    wake().handler(UPLOAD, None)
    assert wake().handler(SCHEDULE, None) == 1
    assert fleet.group()["DesiredCapacity"] == 1


def test_more_instances_than_desired_are_made_desired(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or AWS would refuse the last one's end, which lowers desired; moto never has more than desired."""
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=3)

    def fewer(parsed: Any, **_: Any) -> None:
        (group,) = parsed["AutoScalingGroups"]
        group["DesiredCapacity"] = 1
        group["Instances"][0]["LifecycleState"] = "Terminating:Wait"

    hooked(monkeypatch, "after-call.auto-scaling.DescribeAutoScalingGroups", fewer)
    assert wake().handler(SCHEDULE, None) == 2


def test_it_keeps_the_group_from_balancing_zones(fleet: Fleet) -> None:
    """Protected instances stay while others are launched for them; a template cannot switch it off."""
    wake().handler(SCHEDULE, None)
    (suspended,) = fleet.group()["SuspendedProcesses"]
    assert suspended["ProcessName"] == "AZRebalance"


def test_it_suspends_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.autoscaling.suspend_processes(
        AutoScalingGroupName="fleet", ScalingProcesses=["Launch", "AZRebalance"]
    )
    calls: list[Any] = []
    hooked(monkeypatch, "before-call.auto-scaling.SuspendProcesses", lambda **_: calls.append(1))
    wake().handler(SCHEDULE, None)
    assert not calls


def hooked(monkeypatch: pytest.MonkeyPatch, event: str, action: Any) -> None:
    """Run something at an event of every client that boto3 makes from now on."""
    real = boto3.client

    def client(service: str, **options: Any) -> Any:
        made = real(service, **options)
        made.meta.events.register(event, action)
        return made

    monkeypatch.setattr(boto3, "client", client)


def test_it_reads_the_group_last(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run sets while this one asks the queue is not undone."""
    fleet.upload(1)

    def meanwhile(**_: Any) -> None:
        fleet.autoscaling.set_desired_capacity(AutoScalingGroupName="fleet", DesiredCapacity=4)

    hooked(monkeypatch, "after-call.sqs.GetQueueAttributes", meanwhile)
    assert wake().handler(SCHEDULE, None) == 4
    assert fleet.group()["DesiredCapacity"] == 4


def test_a_burst_of_uploads_is_no_error(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto Scaling throttles whoever asks thousands of times; the schedule asks once a minute."""
    module = wake()

    def throttled(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "Describe")

    hooked(monkeypatch, "before-call.auto-scaling.DescribeAutoScalingGroups", throttled)
    assert module.handler(UPLOAD, None) is None
    with pytest.raises(ClientError, match="Rate exceeded"):
        module.handler(SCHEDULE, None)


def test_it_reports_for_the_dashboard_and_the_alarms(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.upload(21)
    wake().handler(SCHEDULE, None)
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    about = told.pop("_aws")
    assert told == {
        "Fleet": "mine", "Queue": 21, "Instances": 0, "Desired": 2, "CapacityMissing": 2, "Jobs": 0,
    }  # fmt: skip
    (metrics,) = about["CloudWatchMetrics"]
    assert (metrics["Namespace"], metrics["Dimensions"]) == ("preheat", [["Fleet"]])
    assert all(metric["Name"] in told for metric in metrics["Metrics"])
    wake().handler(UPLOAD, None)
    assert capsys.readouterr().out == ""
