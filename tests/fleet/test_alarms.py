"""The alarms of deploy/fleet.yml: that each looks at what the fleet reports, and is heard."""

from typing import Any

import pytest

from factory.ec2.template import template
from preheat.fleet.records import UNITS
from tests.fleet.stacks import wake

ALARMS: dict[str, dict[str, Any]] = {
    name: body["Properties"]
    for name, body in template()["Resources"].items()
    if body["Type"] == "AWS::CloudWatch::Alarm"
}
FLEET = [{"Name": "Fleet", "Value": {"Ref": "AWS::StackName"}}]
# What each alarm looks at, and the value above which it goes off.
WATCHED = {
    "DeadLettersAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "DeadLetters.QueueName", 0),
    "OldestMessageAlarm": ("AWS/SQS", "ApproximateAgeOfOldestMessage", "Queue.QueueName", 900),
    "WakeErrorsAlarm": ("AWS/Lambda", "Errors", "Wake", 2),
    "FailedAlarm": ("preheat", "Failed", "AWS::StackName", 0),
    "CapacityAlarm": ("preheat", "CapacityMissing", "AWS::StackName", 0),
}


def test_every_alarm_reaches_the_topic() -> None:
    assert ALARMS.keys() == {*WATCHED, "IdleInstancesAlarm"}
    for alarm in ALARMS.values():
        told = {"Fn::If": ["Notify", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
        assert alarm["AlarmActions"] == told and "ActionsEnabled" not in alarm
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"


@pytest.mark.parametrize("name", WATCHED)
def test_an_alarm_looks_at_what_it_is_named_for(name: str) -> None:
    alarm = ALARMS[name]
    (dimension,) = alarm["Dimensions"]
    (of,) = dimension["Value"].values()
    assert (alarm["Namespace"], alarm["MetricName"], of, alarm["Threshold"]) == WATCHED[name]


def test_the_fleet_reports_what_its_alarms_look_at() -> None:
    """Without data an alarm is silent for ever."""
    idle = [each["MetricStat"] for each in ALARMS["IdleInstancesAlarm"]["Metrics"] if "MetricStat" in each]
    assert {each["Period"] for each in idle} == {3600}
    watched = [each["Metric"] for each in idle] + [
        alarm for alarm in ALARMS.values() if alarm.get("Namespace") == "preheat"
    ]
    for metric in watched:
        assert (metric["Namespace"], metric["Dimensions"]) == ("preheat", FLEET)
    assert {metric["MetricName"] for metric in watched} <= {*UNITS, *wake().METRICS}


def test_instances_without_work_for_an_hour_are_idle() -> None:
    """Jobs comes from the worker and, as 0, from wake: without any, the sum of the hour is 0."""
    by_id = {each["Id"]: each for each in ALARMS["IdleInstancesAlarm"]["Metrics"]}
    assert by_id["idle"]["Expression"] == "IF(instances > 0 AND FILL(jobs, 0) == 0, 1, 0)"
    found = {
        name: (each["MetricStat"]["Metric"]["MetricName"], each["MetricStat"]["Stat"])
        for name, each in by_id.items()
        if name != "idle"
    }
    assert found == {"instances": ("Instances", "Minimum"), "jobs": ("Jobs", "Sum")}
