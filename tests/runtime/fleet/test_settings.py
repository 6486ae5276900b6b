"""Settings from the environment, and choices from the metadata of an object."""

from email.header import Header
from pathlib import Path

import pytest

from preheat.fleet.choices import Choices, chosen, of_metadata
from preheat.fleet.settings import settings
from preheat.formats import FORMATS
from preheat.options import UsageError
from preheat.places.s3 import Location

LEAST = {"PREHEAT_FLEET": "calls", "PREHEAT_QUEUE_URL": "https://q", "PREHEAT_OUTPUT": "s3://bucket/out"}


def test_the_least() -> None:
    found = settings(LEAST)
    assert (found.fleet, found.queue, found.output) == ("calls", "https://q", Location("bucket", "out/"))
    assert (found.idle, found.ready_file, found.group) == (300, None, "")
    assert found.choices == Choices() and found.choices.formats == FORMATS


def test_empty_is_not_set() -> None:
    names = ("LANGUAGE", "TASK", "FORMATS", "PROMPT", "IDLE_SECONDS", "LOG_GROUP")
    assert settings(LEAST | {f"PREHEAT_{name}": "" for name in names}) == settings(LEAST)


def test_all_of_them() -> None:
    more = {"PREHEAT_LANGUAGE": "German", "PREHEAT_FORMATS": "srt, txt", "PREHEAT_PROMPT": "Grüße"}
    found = settings(LEAST | more | {"PREHEAT_IDLE_SECONDS": "60", "RUNTIME_DIRECTORY": "/run/x"})
    assert (found.choices.options.language, found.choices.formats) == ("de", ("txt", "srt"))
    assert (found.choices.options.initial_prompt, found.idle) == ("Grüße", 60)
    assert found.ready_file == Path("/run/x/ready")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREHEAT_FLEET", ""),
        ("PREHEAT_QUEUE_URL", ""),
        ("PREHEAT_OUTPUT", "bucket/out"),
        ("PREHEAT_OUTPUT", "s3://B/out"),
        ("PREHEAT_IDLE_SECONDS", "soon"),
        ("PREHEAT_IDLE_SECONDS", "0"),
        ("PREHEAT_IDLE_SECONDS", "inf"),
        ("PREHEAT_LANGUAGE", "germn"),
        ("PREHEAT_TASK", "sing"),
        ("PREHEAT_FORMATS", "doc"),
    ],
)
def test_wrong_ones_are_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name.removeprefix("PREHEAT")):
        settings(LEAST | {name: value})


def test_metadata_go_above_the_fleets_choices() -> None:
    fleet = chosen({"language": "de", "formats": "txt"}, Choices())
    assert chosen({}, fleet) == fleet
    own = chosen({"language": "English", "task": "translate", "formats": "all", "prompt": "Hi"}, fleet)
    assert own.options.language == "en" and own.options.task == "translate"
    assert own.formats == FORMATS and own.options.initial_prompt == "Hi"


def test_metadata_as_s3_gives_them() -> None:
    """What is not ASCII comes encoded by RFC 2047; other entries are the user's own business."""
    prompt = Header("Grüße, 日本", "utf-8").encode()
    assert prompt.isascii() and "=?utf-8?" in prompt
    found = of_metadata({"Prompt": prompt, "language": "de", "owner": "=?x"})
    assert found == {"prompt": "Grüße, 日本", "language": "de"}


@pytest.mark.parametrize("value", ["=?utf-9?b?YQ==?=", "=?utf-8?b?/w==?="])
def test_metadata_that_cannot_be_decoded(value: str) -> None:
    with pytest.raises(UsageError, match="metadata"):
        of_metadata({"prompt": value})
