"""How many messages a queue of SQS holds."""

from typing import NamedTuple

from factory.ec2.aws import Client

NAMES = ("", "Delayed", "NotVisible")


class Count(NamedTuple):
    """Messages, by what happens to them; SQS counts approximately."""

    waiting: int
    in_flight: int

    @property
    def all(self) -> int:
        """All of them."""
        return self.waiting + self.in_flight


def count(sqs: Client, url: str) -> Count:
    """Count the messages of a queue."""
    names = [f"ApproximateNumberOfMessages{name}" for name in NAMES]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    visible, delayed, in_flight = (int(found[name]) for name in names)
    return Count(visible + delayed, in_flight)
