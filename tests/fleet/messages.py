"""Messages as S3 and EventBridge send them; moto's own differ from AWS's documentation in small ways."""

from typing import Any
from urllib.parse import quote_plus

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


def by_eventbridge(bucket: str, key: str, size: int = 1000) -> dict[str, Any]:
    """S3 → EventBridge → SQS, of an object in a bucket."""
    said = bridge(key)
    detail = said["detail"]
    named = {"bucket": {"name": bucket}, "object": detail["object"] | {"size": size}}
    return said | {"detail": detail | named}


def by_s3(bucket: str, *keys: str, size: int = 1000) -> dict[str, Any]:
    """S3 → SQS, of objects in a bucket; the keys encoded as in forms, slashes and all."""
    found = [record(quote_plus(key)) for key in keys]
    for each in found:
        each["s3"] |= {"bucket": each["s3"]["bucket"] | {"name": bucket}}
        each["s3"]["object"]["size"] = size
    return {"Records": found}
