"""What messages say, in both of the forms that AWS documents."""

import json

import pytest

from preheat.fleet.events import Dropped, MessageError, Upload, events, needless
from preheat.places.s3 import Location
from tests.fleet.messages import BRIDGE, RECORD, TEST, bridge, record


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
