"""What messages say, in both of the forms that AWS documents."""

import json
from typing import Any

import pytest

from preheat.fleet.events import Dropped, MessageError, Upload, events, needless
from preheat.places.s3 import Location

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
BRIDGE: dict[str, Any] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
    "detail": {
        "version": "0",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {
            "key": "example-key",
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "617f08299329d189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
RECORD: dict[str, Any] = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "awsRegion": "us-west-2",
    "eventTime": "1970-01-01T00:00:00.000Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
    "requestParameters": {"sourceIPAddress": "127.0.0.1"},
    "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQp"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "testConfigRule",
        "bucket": {
            "name": "amzn-s3-demo-bucket",
            "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
            "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
        },
        "object": {
            "key": "HappyFace.jpg",
            "size": 1024,
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
TEST = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2014-10-13T15:57:02.089Z",
    "Bucket": "amzn-s3-demo-bucket",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}


def bridge(key: str = "a.wav", kind: str = "Object Created") -> dict[str, Any]:
    """An event through EventBridge; the key is as it is."""
    detail = BRIDGE["detail"]
    return BRIDGE | {"detail-type": kind, "detail": detail | {"object": detail["object"] | {"key": key}}}


def record(key: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """A record straight from S3; the key is URL-encoded."""
    found = RECORD["s3"]
    return RECORD | {"eventName": name, "s3": found | {"object": found["object"] | {"key": key}}}


def test_both_documented_forms() -> None:
    (first,) = events(json.dumps(BRIDGE))
    assert first == Upload(
        Location("amzn-s3-demo-bucket1", "example-key"), 5, "b1946ac92492d2347c6235b4d2611184", 1636675200.0
    )
    (second,) = events(json.dumps({"Records": [RECORD]}))
    assert second == Upload(
        Location("amzn-s3-demo-bucket", "HappyFace.jpg"), 1024, "d41d8cd98f00b204e9800998ecf8427e", 0.0
    )


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("in/a+b.wav", "in/a b.wav"),
        ("in%2Fa+b.wav", "in/a b.wav"),  # as moto writes it
        ("a%2Bb%25.wav", "a+b%.wav"),
        ("%C3%BC/%E6%97%A5.wav", "ü/日.wav"),
    ],
)
def test_keys_are_encoded_in_one_form_only(encoded: str, key: str) -> None:
    (straight,) = events(json.dumps({"Records": [record(encoded)]}))
    (through,) = events(json.dumps(bridge(key)))
    assert isinstance(straight, Upload) and isinstance(through, Upload)
    assert straight.where.key == through.where.key == key


def test_several_records() -> None:
    found = events(json.dumps({"Records": [record("a"), record("b", "ObjectRemoved:Delete"), record("c")]}))
    assert [type(each) for each in found] == [Upload, Dropped, Upload]
    assert events('{"Records": []}') == []


def test_what_asks_for_no_transcript() -> None:
    for said in (TEST, bridge(kind="Object Deleted"), {"Records": [record("a", "ObjectRestore:Completed")]}):
        (found,) = events(json.dumps(said))
        assert isinstance(found, Dropped)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        "[]",
        "null",
        "{}",
        '{"source": "aws.s3"}',
        json.dumps(BRIDGE | {"detail": None}),
        json.dumps(bridge("")),
        json.dumps(BRIDGE | {"time": "yesterday"}),
        '{"Records": [{}]}',
        '{"Records": [1]}',
        json.dumps({"Records": [record("%FF")]}),  # not UTF-8
        json.dumps(BRIDGE | {"source": "aws.ec2"}),
    ],
)
def test_what_no_message_should_say(body: str) -> None:
    with pytest.raises(MessageError, match=r"send (S3's events only|only those) to this queue"):
        events(body)


def test_results_and_folders_are_no_recordings() -> None:
    output = Location("calls", "transcripts/")
    for key, bucket, size, dropped in (
        ("transcripts/a.wav.json", "calls", 1, True),
        ("transcripts/a.wav.json", "others", 1, False),
        ("transcripts.wav", "calls", 1, False),
        ("a/", "calls", 0, True),
        ("a/", "calls", 1, False),
        ("a.wav", "calls", 0, False),  # has to have an error file
    ):
        assert (needless(Upload(Location(bucket, key), size), output) is not None) == dropped
