"""What a message of the queue says: which objects of S3 have been written.

S3 has two ways to say it, told apart by their form: through EventBridge, one object a message, or straight
to the queue, as a list of records whose keys are URL-encoded.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from preheat.places.s3 import Location


class MessageError(Exception):
    """A message that will never be understood: one line."""


@dataclass(frozen=True)
class Upload:
    """An object that has been written."""

    where: Location
    size: int = 0  # bytes; 0 if it is not said
    etag: str = ""
    when: float | None = None  # s since 1970


@dataclass(frozen=True)
class Dropped:
    """What a message says that needs no work, and why not."""

    what: str
    why: str


def events(body: str) -> list[Upload | Dropped]:
    """What a message says. Raises MessageError."""
    try:
        said = json.loads(body)
    except ValueError as error:
        raise MessageError(f"is not JSON: {error}; send S3's events only to this queue") from error
    try:
        if isinstance(said, dict) and said.get("Event") == "s3:TestEvent":
            return [Dropped(str(said.get("Bucket", "")), "S3's test of the queue")]
        if isinstance(said, dict) and isinstance(said.get("Records"), list):
            return [of_record(record) for record in said["Records"]]
        if isinstance(said, dict) and said.get("source") == "aws.s3":
            return [of_bridge(said)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MessageError(
            f"lacks what S3's events have ({error!r}); send only those to this queue"
        ) from error
    raise MessageError("is no event of S3's; send only those to this queue")


def of_bridge(said: dict[str, Any]) -> Upload | Dropped:
    """An event that came through EventBridge."""
    detail = said["detail"]
    where = Location(text(detail["bucket"]["name"]), text(detail["object"]["key"]))
    if said["detail-type"] != "Object Created":
        return Dropped(str(where), f"{said['detail-type']} asks for no transcript")
    found = detail["object"]
    return Upload(where, int(found.get("size") or 0), found.get("etag", ""), moment(said.get("time")))


def of_record(record: dict[str, Any]) -> Upload | Dropped:
    """A record of an event that came straight from S3."""
    found, name = record["s3"]["object"], text(record["eventName"]).removeprefix("s3:")
    where = Location(text(record["s3"]["bucket"]["name"]), unquote_plus(text(found["key"]), errors="strict"))
    if not name.startswith("ObjectCreated:"):
        return Dropped(str(where), f"{name} asks for no transcript")
    return Upload(where, int(found.get("size") or 0), found.get("eTag", ""), moment(record.get("eventTime")))


def text(value: object) -> str:
    """A string that must be there and not be empty. Raises ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} in place of a name")
    return value


def moment(written: object) -> float | None:
    """A time in ISO 8601 as seconds since 1970; None if there is none."""
    return datetime.fromisoformat(written).timestamp() if isinstance(written, str) else None


def needless(upload: Upload, output: Location) -> Dropped | None:
    """Why an object that has been written is no recording, as its key shows; None if it may be one."""
    if upload.where.key.endswith("/") and upload.size == 0:
        return Dropped(str(upload.where), "a folder")
    if upload.where.bucket == output.bucket and upload.where.key.startswith(output.beneath("").key):
        # An output of "" is the whole bucket, in which results could not be told from recordings.
        return Dropped(str(upload.where), "lies where the results go")
    return None
