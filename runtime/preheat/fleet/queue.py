"""The queue: receives messages, and keeps those in flight from being given to another worker."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

from preheat.places import aws
from preheat.threads import start
from preheat.timing import warn

VISIBILITY = 120  # s for which a message in flight is hidden from other workers
RENEWAL = 40.0  # s between the renewals of that
RETRY = 10.0  # s until the next try, when a renewal has failed
BATCH = 10  # messages in a request
# Until the first renewal: a message that SQS gives to a worker that has just ended comes back so much sooner.
FIRST = 30  # s


@dataclass(frozen=True, eq=False)
class Message:
    """A message of the queue."""

    id: str
    receipt: str
    body: str
    attempt: int  # from 1 on
    sent: float  # s since 1970
    received: float = field(default_factory=time.time)


class Queue:
    """A queue of SQS."""

    def __init__(self, client: Any, url: str) -> None:
        self._client, self._url = client, url
        self._held: dict[Message, float] = {}  # when each is to be renewed, on the monotonic clock
        self._changed = Condition()
        start(self._renew)

    @property
    def held(self) -> list[Message]:
        """The messages in flight, the oldest first."""
        with self._changed:
            return list(self._held)

    def receive(self, most: int, wait: int) -> list[Message]:
        """Up to `most` messages, which may take `wait` s. Raises AwsError."""
        with aws.errors("SQS ReceiveMessage"):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=wait,
                VisibilityTimeout=FIRST,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        found = [message(each) for each in answer.get("Messages", ())]
        with self._changed:
            self._held |= dict.fromkeys(found, time.monotonic())
            self._changed.notify()
        return found

    def delete(self, message: Message) -> None:
        """Delete a message whose work is done. Raises AwsError; then it comes again, and is found done."""
        self._let_go(message)
        with aws.errors("SQS DeleteMessage"):
            self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt)

    def release(self, messages: Iterable[Message], after: float = 0.0) -> None:
        """Hand messages back, to be received again after so many seconds; if that fails, somewhat later."""
        messages = list(messages)
        for each in messages:
            self._let_go(each)
        self._hide(messages, round(after))

    def _let_go(self, message: Message) -> None:
        with self._changed:
            self._held.pop(message, None)

    def _renew(self) -> None:
        """The thread that renews the visibility of messages in flight, of new ones at once."""
        while True:
            with self._changed:
                while (wait := min(self._held.values(), default=math.inf) - time.monotonic()) > 0:
                    self._changed.wait(min(wait, RENEWAL))
                due = [each for each, when in self._held.items() if when <= time.monotonic()]
            failed = set(self._hide(due, VISIBILITY))
            with self._changed:
                now = time.monotonic()
                self._held |= {
                    each: now + (RETRY if each in failed else RENEWAL) for each in due if each in self._held
                }

    def _hide(self, messages: list[Message], seconds: int) -> list[Message]:
        """Change the visibility of messages; those where that failed, which another worker may get."""
        failed = []
        for at in range(0, len(messages), BATCH):
            some = messages[at : at + BATCH]
            entries = [
                {"Id": str(number), "ReceiptHandle": each.receipt, "VisibilityTimeout": seconds}
                for number, each in enumerate(some)
            ]
            problem = ""
            try:
                with aws.errors("SQS ChangeMessageVisibilityBatch"):
                    answer = self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                for each in answer.get("Failed", ()):  # although the request has not failed
                    failed.append(some[int(each["Id"])])
                    problem = f"SQS ChangeMessageVisibilityBatch: {each['Code']}: {each.get('Message', '')}"
            except aws.AwsError as error:
                failed += some
                problem = str(error)
            if problem:
                warn(f"{problem}; messages in flight may be given to another worker, too")
        return failed


def message(given: dict[str, Any]) -> Message:
    """A message as SQS gives it."""
    facts = given.get("Attributes", {})
    attempt, sent = int(facts.get("ApproximateReceiveCount", 1)), int(facts.get("SentTimestamp", 0)) / 1000
    return Message(given["MessageId"], given["ReceiptHandle"], given["Body"], attempt, sent)
