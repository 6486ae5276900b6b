"""`make fleet-status`: what the fleet does now and did last, as tables."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.console import FactoryError
from factory.ec2 import queue
from factory.ec2.aws import Client, client, explained
from factory.ec2.fleet import PAGE, POLICY, stack_of
from factory.ec2.fleetsettings import FleetSettings, read_settings
from factory.ec2.table import table

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
STREAMS, EVENTS = 10, 50  # the instances whose last records are read, and how many of each
JOBS, FAILURES = 10, 10  # shown
FAILED = ("failed", "incomplete")

Job = dict[str, Any]  # a record of the log: docs/fleet.md has its fields


def fleet_status() -> None:
    """Show the fleet: its queue, its instances, its last jobs and failures, and what they cost."""
    settings = read_settings()
    now = datetime.now(UTC)
    with explained(POLICY, PAGE):
        stack = stack_of(settings)
        if not stack.look() or not stack.outputs:
            raise FactoryError(
                f"there is no fleet {settings.name} in {settings.region} ({stack.status or 'no such stack'})",
                "Make it: make fleet; or name your settings: make fleet-status SETTINGS=my.yml",
            )
        parts = [
            f"fleet {settings.name}, {settings.region}, {stack.status.lower()}",
            table(("queue", "", ""), of_queue(settings, stack.outputs, now)),
            of_instances(settings, stack.outputs, now),
            of_jobs(last_jobs(client("logs", settings.region), stack.outputs["JobsLog"])),
            table(("last 24 hours", ""), of_cost(settings, now)),
        ]
    print("\n\n".join(parts))


def of_queue(
    settings: FleetSettings, outputs: dict[str, str], now: datetime
) -> Iterator[tuple[str, str, str]]:
    """The rows on the queue and the dead letters."""
    sqs = client("sqs", settings.region)
    counted, dead = queue.count(sqs, outputs["QueueUrl"]), queue.count(sqs, outputs["DeadLettersUrl"])
    name = outputs["QueueUrl"].rpartition("/")[2]
    metric = ("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": name})
    ages = values(client("cloudwatch", settings.region), metric, "Maximum", 60, (now - 15 * HOUR / 60, now))
    oldest = f"the oldest for {span(timedelta(seconds=ages[-1]))}" if counted.all and ages else ""
    yield "waiting", str(counted.waiting), oldest
    yield "at work", str(counted.in_flight), ""
    yield "dead letters", str(dead.all), "see docs/fleet-runbook.md" if dead.all else ""


def of_instances(settings: FleetSettings, outputs: dict[str, str], now: datetime) -> str:
    """The table of the instances, the oldest first, and how many are wanted."""
    found = client("autoscaling", settings.region).describe_auto_scaling_groups(
        AutoScalingGroupNames=[outputs["Group"]]
    )["AutoScalingGroups"]
    if not found:
        return "the Auto Scaling group is gone: run make fleet"
    (group,) = found
    states = {item["InstanceId"]: item["LifecycleState"] for item in group["Instances"]}
    head = f"{len(states)} instances, {group['DesiredCapacity']} wanted, at most {group['MaxSize']}"
    if not states:
        return head
    asked = client("ec2", settings.region).get_paginator("describe_instances")
    pages = asked.paginate(Filters=[{"Name": "instance-id", "Values": list(states)}])
    machines = [item for page in pages for held in page["Reservations"] for item in held["Instances"]]
    rows = [
        (
            item["InstanceId"],
            states[item["InstanceId"]],
            span(now - item["LaunchTime"]),
            item["InstanceType"],
            item.get("InstanceLifecycle", "on-demand"),
            item["Placement"]["AvailabilityZone"],
            item["ImageId"],
        )
        for item in sorted(machines, key=lambda item: item["LaunchTime"])
    ]
    return head + "\n" + table(("instance", "state", "age", "type", "bought", "zone", "AMI"), rows)


def of_jobs(jobs: list[Job]) -> str:
    """The tables of the last jobs and of what has failed among them."""
    if not jobs:
        return "no jobs yet"
    shown = [
        (
            moment(job),
            str(job.get("outcome", "")),
            seconds(job, "audio_s"),
            seconds(job, "wait_s"),
            seconds(job, "total_s"),
            str(job.get("recording", "")),
        )
        for job in jobs[:JOBS]
    ]
    parts = [table(("last jobs", "outcome", "audio", "waited", "in all", "recording"), shown)]
    if failed := [job for job in jobs if job.get("outcome") in FAILED][:FAILURES]:
        rows = [(moment(job), str(job.get("recording", "")), str(job.get("problem", ""))) for job in failed]
        parts.append(table(("last failures", "recording", "reason"), rows))
    return "\n\n".join(parts)


def last_jobs(logs: Client, group: str) -> list[Job]:
    """The newest job records, the newest first: each instance has a log stream, and a record is a line."""
    streams = logs.describe_log_streams(
        logGroupName=group, orderBy="LastEventTime", descending=True, limit=STREAMS
    )["logStreams"]
    found: list[tuple[int, Job]] = []
    for stream in streams:
        events = logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], limit=EVENTS, startFromHead=False
        )["events"]
        for event in events:
            try:
                record = json.loads(event["message"])
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and record.get("event") == "job":
                found.append((event["timestamp"], record | {"time": event["timestamp"]}))
    return [job for _, job in sorted(found, key=lambda item: item[0], reverse=True)]


def of_cost(settings: FleetSettings, now: datetime) -> Iterator[tuple[str, str]]:
    """The rows on the last day: hours of instances and audio, and what that costs by the user's price."""
    cloudwatch, day = client("cloudwatch", settings.region), (now - DAY, now)
    fleet = {"Fleet": settings.name}

    def total(name: str) -> float:
        return sum(values(cloudwatch, ("preheat", name, fleet), "Sum", 3600, day))

    hours, audio = total("Instances") / 60, total("AudioSeconds") / 3600  # wake counts once a minute
    yield "recordings", f"{total('Jobs'):.0f}, {total('Failed'):.0f} of them failed"
    yield "audio", f"{audio:.1f} h"
    yield "instances", f"{hours:.1f} h"
    if settings.hourly_price is None:
        yield "cost", "set hourly_price in your settings to what an instance costs in an hour"
        return
    cost = hours * settings.hourly_price
    yield "cost", f"about {cost:.2f}" + (f", {cost / audio:.4f} for an hour of audio" if audio else "")


Metric = tuple[str, str, dict[str, str]]  # namespace, name, dimensions


def values(
    cloudwatch: Client, metric: Metric, statistic: str, period: int, between: tuple[datetime, datetime]
) -> list[float]:
    """A metric's values for each period (in seconds), the oldest first."""
    namespace, name, dimensions = metric
    found = cloudwatch.get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        Statistics=[statistic],
        Period=period,
        StartTime=between[0],
        EndTime=between[1],
    )["Datapoints"]
    return [float(point[statistic]) for point in sorted(found, key=lambda point: point["Timestamp"])]


def moment(job: Job) -> str:
    """When a job ended, in UTC."""
    return f"{datetime.fromtimestamp(job['time'] / 1000, UTC):%m-%d %H:%M:%S}"


def seconds(job: Job, name: str) -> str:
    """A duration of a record; empty if it has none."""
    value = job.get(name)
    return f"{value:.1f} s" if isinstance(value, int | float) else ""


def span(length: timedelta) -> str:
    """A length of time in its two largest units: 3 h 5 min, 12 s."""
    whole = max(0, int(length.total_seconds()))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
