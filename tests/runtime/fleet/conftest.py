"""A queue, a bucket and an instance's metadata for the tests of the worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from preheat.places import aws
from tests.background import quiet_afterwards
from tests.fleet.metadata_server import MetadataServer
from tests.runtime.places.conftest import Bucket, bucket, proxy, server

__all__ = ["bucket", "proxy", "quiet_afterwards", "server"]  # fixtures


@dataclass
class Waiting:
    """A queue, as whoever fills it sees it."""

    client: Any
    url: str

    def send(self, body: str) -> None:
        """Put a message into it."""
        self.client.send_message(QueueUrl=self.url, MessageBody=body)

    @property
    def counts(self) -> tuple[int, int]:
        """How many messages are to be had, and how many are in somebody's hand."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])


@pytest.fixture
def waiting(bucket: Bucket) -> Waiting:
    """An empty queue, in the same AWS as the bucket."""
    client = aws.client("sqs")
    return Waiting(client, client.create_queue(QueueName="recordings")["QueueUrl"])


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    """The metadata service of an instance in a group."""
    with MetadataServer() as service:
        service.answers |= {
            "instance-id": "i-1",
            "instance-type": "g6.xlarge",
            "instance-life-cycle": "spot",
            "ami-id": "ami-1",
            "dynamic/instance-identity/document": '{"pendingTime": "2026-11-29T10:00:00Z"}',
            "autoscaling/target-lifecycle-state": "InService",
        }
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
        yield service
