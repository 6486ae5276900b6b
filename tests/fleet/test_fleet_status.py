"""`make fleet-status` against moto: what it tells of a fleet."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.backends import get_backend

from tests.ami.calls import ACCOUNT
from tests.ami.cloud import HOME, Cloud
from tests.fleet.deployer import Deployer

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


def record(**fields: Any) -> str:
    """A line of the worker's log."""
    return json.dumps({"event": "job", "fleet": "preheat-test"} | fields)


def test_the_state_is_shown(deployer: Deployer) -> None:
    deployer.settings["hourly_price"] = 0.4
    deployer.run()
    made, cloud = deployer.outputs(), deployer.cloud
    for delay in (0, 0, 900):
        cloud.client("sqs").send_message(QueueUrl=made["QueueUrl"], MessageBody="{}", DelaySeconds=delay)
    for _ in range(4):
        cloud.client("sqs").send_message(QueueUrl=made["DeadLettersUrl"], MessageBody="{}")
    cloud.client("sqs").receive_message(QueueUrl=made["QueueUrl"])
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName="preheat-test", DesiredCapacity=1)
    logs, now = cloud.client("logs"), int(time.time() * 1000)
    for stream, ago, line in [
        (
            "i-1",
            30_000,
            record(outcome="done", recording="s3://b/one.wav", audio_s=60, wait_s=12.34, total_s=20),
        ),
        ("i-1", 20_000, "not JSON"),
        ("i-2", 15_000, record(outcome="incomplete", recording="s3://b/cut.wav", problem="it is cut short")),
        ("i-1", 10_000, json.dumps({"event": "other", "recording": "s3://b/other.wav"})),
        ("i-2", 5_000, record(outcome="failed", recording="s3://b/two.wav", problem="it is a picture")),
    ]:
        if not logs.describe_log_streams(logGroupName=made["JobsLog"], logStreamNamePrefix=stream)[
            "logStreams"
        ]:
            logs.create_log_stream(logGroupName=made["JobsLog"], logStreamName=stream)
        logs.put_log_events(
            logGroupName=made["JobsLog"], logStreamName=stream,
            logEvents=[{"timestamp": now - ago, "message": line}],
        )  # fmt: skip
    metrics(cloud, made)
    printed = deployer.run("fleet-status")
    for line in (
        "waiting 2 the oldest for 7 min 5 s",
        "at work 1",
        "dead letters 4 see docs/fleet-runbook.md",
        "1 instances, 1 wanted, at most 2",
        "InService",
        "failed s3://b/two.wav",
        "s3://b/two.wav it is a picture",
        "s3://b/cut.wav it is cut short",
        "done 60.0 s 12.3 s 20.0 s s3://b/one.wav",
        "recordings 9, 2 of them failed",
        "instances 3.0 h",
        "cost about 1.20, 0.1200 for an hour of audio",
    ):
        assert line in " ".join(printed.split()), printed
    assert printed.index("two.wav") < printed.index("one.wav"), "the newest first"
    assert "other.wav" not in printed
    del deployer.settings["hourly_price"]
    assert "set hourly_price in your settings" in deployer.run("fleet-status")


def metrics(cloud: Cloud, made: dict[str, str]) -> None:
    """Metrics as CloudWatch takes them from the records of wake and worker; moto does not."""
    cloudwatch, now = cloud.client("cloudwatch"), datetime.now(UTC)
    fleet = [{"Name": "Fleet", "Value": "preheat-test"}]
    queue = [{"Name": "QueueName", "Value": made["QueueUrl"].rpartition("/")[2]}]
    for namespace, name, dimensions, minutes, value in [
        ("preheat", "Instances", fleet, 2, 180),  # three instances for an hour, or one for three
        ("preheat", "AudioSeconds", fleet, 2, 36_000),
        ("preheat", "Jobs", fleet, 2, 9),
        ("preheat", "Failed", fleet, 2, 2),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", queue, 9, 5),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", queue, 2, 425),
    ]:
        when = now - timedelta(minutes=minutes)
        data = {"MetricName": name, "Dimensions": dimensions, "Timestamp": when, "Value": value}
        cloudwatch.put_metric_data(Namespace=namespace, MetricData=[data])


def test_the_age_of_an_instance(deployer: Deployer) -> None:
    """The oldest comes first: it may hang."""
    deployer.run()
    deployer.cloud.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName="preheat-test", DesiredCapacity=2
    )
    machines = [
        machine
        for reservation in get_backend("ec2")[ACCOUNT][HOME].reservations.values()
        for machine in reservation.instances
    ]
    machines[-1].launch_time -= timedelta(hours=3, minutes=5)
    printed = " ".join(deployer.run("fleet-status").split())
    assert f"{machines[-1].id} InService 3 h 5 min" in printed, printed
    assert printed.index(machines[-1].id) < printed.index(machines[0].id)


def test_the_last_jobs_are_of_the_instances_that_worked_last(deployer: Deployer) -> None:
    """Of thousands that have come and gone."""
    deployer.run()
    logs, group, now = deployer.cloud.client("logs"), deployer.outputs()["JobsLog"], int(time.time() * 1000)
    for number in range(15):
        stream = f"i-{number}"
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        line = record(outcome="done", recording=f"s3://b/{number}.wav")
        at = now - int(abs(number - 9.4) * 60_000)  # the tenth is the newest, then come its neighbours
        logs.put_log_events(
            logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": at, "message": line}]
        )
    printed = deployer.run("fleet-status")
    assert [number for number in range(15) if f"s3://b/{number}.wav" in printed] == list(range(5, 15))


def test_the_state_of_an_idle_fleet(deployer: Deployer) -> None:
    deployer.run()
    printed = deployer.run("fleet-status")
    assert "0 instances, 0 wanted, at most 2" in printed and "no jobs yet" in printed
    assert "the oldest" not in printed


def test_there_is_nothing_to_show_of_no_fleet(deployer: Deployer) -> None:
    deployer.refused("fleet-status", "there is no fleet preheat-test in us-east-1", "make fleet")
