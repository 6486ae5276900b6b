"""S3 and compatible services: recordings in, results out; see aws.py for credentials, region and endpoint."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, NamedTuple

from preheat.options import UsageError
from preheat.places import aws
from preheat.places.s3errors import DENIED, MISSING, S3Error, explained

SCHEME = "s3://"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
LONGEST_KEY = 1024  # bytes of UTF-8
CONNECTIONS = 32  # at a time, for all recordings that are being fetched
ATTEMPTS = 8  # for each request, with pauses that double up to 20 s
PART = 8 << 20  # bytes of a range
RANGES = 8  # of one recording, fetched at a time
TYPES = {
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "json": "application/json",
}


@dataclass(frozen=True)
class Location:
    """A bucket, and in it the key of an object or a prefix of keys."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def beneath(self, name: str) -> "Location":
        """The location of `name` below this one, taken as a folder."""
        folder = self.key if not self.key or self.key.endswith("/") else f"{self.key}/"
        return Location(self.bucket, folder + name)


class Object(NamedTuple):
    """What S3 says of an object."""

    key: str
    size: int  # bytes
    etag: str
    metadata: dict[str, str]  # x-amz-meta-*; empty if from a listing


def location(text: str) -> Location:
    """What s3://bucket/key names. Raises UsageError."""
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{text}: {bucket!r} is not a valid bucket name; write s3://bucket/key or s3://bucket/prefix/"
        )
    if problem := unfit(key):
        raise UsageError(f"{text}: {problem}")
    return Location(bucket, key)


def unfit(key: str) -> str | None:
    """Why this cannot be an object's key, with the cure; None if it can."""
    try:
        size = len(os.fsencode(key).decode().encode())
    except UnicodeError:
        return "its name is not UTF-8, as S3 requires; rename it"
    return f"its key is longer than {LONGEST_KEY} bytes; rename it" if size > LONGEST_KEY else None


@cache
def client() -> Any:
    """The connection to S3, for all threads. Raises UsageError where the user's settings are wrong."""
    import boto3.s3.transfer  # noqa: F401, PLC0415  now, rather than later in another thread
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  as above

    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    settings = {"retries": retries, "max_pool_connections": CONNECTIONS}
    try:
        return aws.client("s3", **settings, connect_timeout=10, read_timeout=60)
    except (BotoCoreError, ValueError) as error:
        raise UsageError(f"S3: {explained(error)}") from error


def reach(where: Location) -> None:
    """Raise UsageError if a bucket is out of reach for any key: wrong credentials, region or clock."""
    try:
        next(listed(where, limit=1), None)
    except S3Error as error:
        if error.code not in DENIED:  # without permission to list, one may still read and write
            raise UsageError(f"{where}: {error}") from error


def listed(where: Location, limit: int = 1000) -> Iterator[Object]:
    """All objects below a prefix, in key order; `limit`: page size of the requests. Raises S3Error."""
    pages = client().get_paginator("list_objects_v2")
    settings = {"PageSize": limit}
    with errors():
        for page in pages.paginate(Bucket=where.bucket, Prefix=where.key, PaginationConfig=settings):
            for found in page.get("Contents", ()):
                yield Object(found["Key"], found["Size"], found["ETag"], {})


def head(where: Location) -> Object | None:
    """What S3 says of an object; None if there is none. Raises S3Error."""
    try:
        with errors():
            found = client().head_object(Bucket=where.bucket, Key=where.key)
    except S3Error as error:
        if error.code in MISSING:
            return None
        with errors():  # HEAD answers have no body, so only a status; a GET raises the named error
            client().get_object(Bucket=where.bucket, Key=where.key, Range="bytes=0-0")["Body"].close()
        raise
    return Object(where.key, found["ContentLength"], found["ETag"], found["Metadata"])


def fetch(where: Location, file: BinaryIO, seen: Object | None = None) -> None:
    """Write an object to a file, fetching ranges of one version in parallel. Raises S3Error, OSError.

    `seen`: from `head`, if it must be that version; another one is an S3Error with a code of REPLACED.
    """
    from boto3.s3.transfer import TransferConfig, create_transfer_manager  # noqa: PLC0415  there by now

    config = TransferConfig(
        multipart_threshold=PART,
        multipart_chunksize=PART,
        max_concurrency=RANGES,
        preferred_transfer_client="classic",  # the CRT client has its own rules for credentials and retries
    )
    with errors(), create_transfer_manager(client(), config) as manager:
        manager.download(where.bucket, where.key, file, subscribers=[Seen(seen)] if seen else []).result()


class Seen:
    """Tells a transfer of s3transfer which version of the object to fetch."""

    def __init__(self, seen: Object) -> None:
        self._seen = seen

    def on_queued(self, future: Any, **_: Any) -> None:
        """s3transfer calls it before the transfer, which then needs no HEAD of its own."""
        future.meta.provide_transfer_size(self._seen.size)
        future.meta.provide_object_etag(self._seen.etag)
        future.meta.call_args.extra_args["IfMatch"] = self._seen.etag  # which it sends for ranges alone


def put(where: Location, content: bytes, format_name: str, **settings: Any) -> str:
    """Write an object, with a checksum that S3 verifies and the bucket's default encryption; its ETag.

    `settings`: further parameters of PutObject, such as Metadata, or IfNoneMatch="*" to never overwrite.
    Raises S3Error.
    """
    with errors():
        written = client().put_object(
            Bucket=where.bucket, Key=where.key, Body=content, ContentType=TYPES[format_name], **settings
        )
    return str(written["ETag"])


def remove(where: Location, etag: str) -> None:
    """Delete an object if it still has this ETag. Raises S3Error, then with a code of TAKEN or MISSING."""
    with errors():
        client().delete_object(Bucket=where.bucket, Key=where.key, IfMatch=etag)


@contextmanager
def errors() -> Iterator[None]:
    """Turn boto3's errors in the block into S3Error."""
    client()
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  there by now
    from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError  # noqa: PLC0415  as above

    try:
        yield
    except (BotoCoreError, ClientError, RetriesExceededError, S3DownloadFailedError) as error:
        raise explained(error) from error
