"""Messages in flight, against moto's SQS."""

import json
import time
from collections.abc import Callable

import pytest

from preheat.fleet import queue as queues
from preheat.fleet.queue import Queue
from preheat.places import aws
from tests.fleet.gateway import Gateway
from tests.runtime.fleet.conftest import Waiting
from tests.runtime.places.proxy import Proxy, Trouble


def wait(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def requests(proxy: Proxy, name: str) -> int:
    """How often a call of SQS was made."""
    return sum(headers.get("x-amz-target") == f"AmazonSQS.{name}" for _, _, headers in proxy.requests)


def test_what_is_known_of_a_message(waiting: Waiting) -> None:
    waiting.send("one")
    (message,) = Queue(waiting.client, waiting.url).receive(10, 0)
    assert (message.body, message.attempt) == ("one", 1)
    assert 0 <= message.received - message.sent < 30


def test_it_stays_hidden_until_it_is_deleted(
    waiting: Waiting, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when others come meanwhile, each with a renewal of its own."""
    monkeypatch.setattr(queues, "FIRST", 2)
    monkeypatch.setattr(queues, "VISIBILITY", 2)
    monkeypatch.setattr(queues, "RENEWAL", 0.5)
    queue = Queue(waiting.client, waiting.url)
    waiting.send("one")
    (first,) = queue.receive(10, 0)
    for _ in range(10):
        waiting.send("more")
        time.sleep(0.4)
        queue.delete(queue.receive(1, 0)[0])
        assert waiting.counts == (0, 1)
    queue.delete(first)
    assert waiting.counts == (0, 0) and queue.held == []
    time.sleep(0.6)
    made = requests(proxy, "ChangeMessageVisibilityBatch")
    time.sleep(1.5)
    assert requests(proxy, "ChangeMessageVisibilityBatch") == made >= 8


def test_the_first_renewal_is_at_once(waiting: Waiting, proxy: Proxy) -> None:
    """What a poll gave that nobody waited for comes back sooner than what is in flight."""
    queue = Queue(waiting.client, waiting.url)
    for number in range(12):
        waiting.send(str(number))
    assert len(queue.receive(10, 0)) == 10
    wait(lambda: requests(proxy, "ChangeMessageVisibilityBatch") == 1)
    assert len(queue.receive(10, 0)) == 2
    wait(lambda: requests(proxy, "ChangeMessageVisibilityBatch") == 2)
    assert len(queue.held) == 12


def test_a_renewal_may_fail_once(waiting: Waiting, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hides a message for longer than until the next but one; a short one would be worked on twice."""
    waiting.send("one")
    with Gateway(server) as gateway:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
        Queue(aws.client("sqs"), waiting.url).receive(1, 0)
        wait(lambda: gateway.named("sqs:ChangeMessageVisibilityBatch"))
        (request,) = gateway.named("sqs:ChangeMessageVisibilityBatch")
    (entry,) = json.loads(request.body)["Entries"]
    assert entry["VisibilityTimeout"] > queues.RENEWAL + queues.RETRY


def test_a_failed_renewal_is_tried_again(
    waiting: Waiting, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queues, "RETRY", 0.2)
    queue = Queue(aws.client("sqs", retries={"total_max_attempts": 1}), waiting.url)
    waiting.send("one")
    visibility = "AmazonSQS.ChangeMessageVisibilityBatch"
    proxy.trouble = lambda _, __, headers: (
        Trouble(status=503) if headers.get("x-amz-target") == visibility else None
    )
    queue.receive(1, 0)
    wait(lambda: requests(proxy, "ChangeMessageVisibilityBatch") >= 3)
    assert "may be given to another worker" in capsys.readouterr().err


def test_what_a_renewal_leaves_out_is_tried_again(
    waiting: Waiting, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQS may fail for some messages of a request, and still answer 200."""
    monkeypatch.setattr(queues, "RETRY", 0.2)
    failed = [{"Id": "1", "Code": "InternalError", "Message": "Try again", "SenderFault": False}]
    body = json.dumps({"Successful": [{"Id": "0"}], "Failed": failed}).encode()
    waiting.send("one")
    waiting.send("two")
    with Gateway(server) as gateway:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
        name = "sqs:ChangeMessageVisibilityBatch"
        gateway.before = lambda call: (
            Trouble(status=200, body=body) if call.name == name and len(gateway.named(name)) == 1 else None
        )
        (_, second) = Queue(aws.client("sqs"), waiting.url).receive(10, 0)
        wait(lambda: len(gateway.named(name)) == 2)
        time.sleep(0.5)
        (_, again) = gateway.named(name)
    assert [each["ReceiptHandle"] for each in json.loads(again.body)["Entries"]] == [second.receipt]
    said = capsys.readouterr().err
    assert "InternalError: Try again; messages in flight may be given to another worker" in said


def test_released_it_comes_at_once_or_later(waiting: Waiting) -> None:
    queue = Queue(waiting.client, waiting.url)
    waiting.send("one")
    queue.release(queue.receive(1, 0))
    (again,) = queue.receive(1, 0)
    assert again.attempt == 2
    queue.release([again], 1.0)
    assert queue.receive(1, 0) == [] and queue.held == []
    assert [each.attempt for each in queue.receive(1, 3)] == [3]


def test_a_queue_that_is_not_there(waiting: Waiting) -> None:
    with pytest.raises(aws.AwsError, match=r"SQS ReceiveMessage: .*NonExistentQueue"):
        Queue(waiting.client, f"{waiting.url}-not").receive(1, 0)
