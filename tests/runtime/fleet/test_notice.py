"""What the instance's metadata say of it and of its end; the metadata service is a stand-in."""

import time
from collections.abc import Callable
from threading import Timer

import pytest

from preheat.fleet import notice as notices
from preheat.fleet.metadata import Host, Metadata, MetadataError, host, wait_for_host
from preheat.fleet.notice import Notice
from tests.fleet.metadata_server import MetadataServer, instant


def wait(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_instance(metadata: MetadataServer) -> None:
    found = host(Metadata())
    assert found == Host("i-1", "g6.xlarge", "spot", "ami-1", "2026-11-29T10:00:00Z")
    assert found.launch == 1795946400.0
    metadata.answers.clear()
    assert host(Metadata()) == Host() and Host().launch is None


def test_a_token_that_has_expired(metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    about = Metadata()
    assert about.get("meta-data/instance-id") == "i-1"
    monkeypatch.setattr("tests.fleet.metadata_server.TOKEN", "another")
    assert about.get("meta-data/instance-id") == "i-1"


def test_no_metadata(metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata.down = True
    with pytest.raises(MetadataError, match="answers 503"):
        Metadata().get("meta-data/instance-id")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MetadataError, match="does not answer"):
        Metadata().get("meta-data/instance-id")


def test_metadata_that_do_not_answer_at_first(
    metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preheat.fleet.metadata.EVERY", 0.05)
    metadata.down = True
    with pytest.raises(MetadataError, match="answers 503"):
        wait_for_host(Metadata(), 0.2)
    Timer(0.5, lambda: setattr(metadata, "down", False)).start()
    assert wait_for_host(Metadata(), 60).instance == "i-1"
    del metadata.answers["instance-id"]
    with pytest.raises(MetadataError, match="no instance-id"):
        wait_for_host(Metadata(), 0.2)


def test_a_proxy_is_not_asked(metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert Metadata().get("meta-data/instance-id") == "i-1"


def test_notices(metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "EVERY", 0.05)
    said: list[str] = []
    notice = Notice(Metadata(), said.append)
    assert (notice.takes, notice.deadline, notice.rebalance, notice.ends) == (True, None, False, False)
    metadata.answers["events/recommendations/rebalance"] = "{}"
    wait(lambda: notice.rebalance)
    assert notice.takes and notice.deadline is None
    metadata.interrupt(100)
    wait(lambda: notice.ends)
    assert not notice.takes
    assert notice.deadline is not None and 98 < notice.deadline - time.time() < 101
    assert said[1] == "instance: wanted InService, rebalance recommended"
    assert said[2].startswith("instance: wanted InService, rebalance recommended, ends at ")


def test_a_signal_ends_the_worker_but_not_the_instance(metadata: MetadataServer) -> None:
    notice = Notice(Metadata(), lambda _: None)
    notice.leave(90)
    assert not notice.takes and not notice.ends
    assert notice.deadline is not None and 88 < notice.deadline - time.time() < 91


def test_metadata_that_come_and_go(
    metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was known stays known, and one line is said for all the time."""
    monkeypatch.setattr(notices, "EVERY", 0.05)
    notice = Notice(Metadata(), lambda _: None)
    metadata.answers["autoscaling/target-lifecycle-state"] = "Standby"
    wait(lambda: not notice.takes)
    metadata.down = True
    time.sleep(0.5)
    assert not notice.takes and capsys.readouterr().err.count(f"seen: {metadata.url}") == 1
    metadata.down = False
    metadata.answers["autoscaling/target-lifecycle-state"] = "InService"
    wait(lambda: notice.takes)
    for answer in ("no JSON", "", "null", "3", '["time"]', '{"time": 3}', '{"time": "soon"}'):
        metadata.answers["spot/instance-action"] = answer
        time.sleep(0.2)
    metadata.answers["spot/instance-action"] = f'{{"action": "stop", "time": "{instant(60)}"}}'
    wait(lambda: notice.ends)
