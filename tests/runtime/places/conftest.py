"""S3 for the tests: moto's server, behind a proxy that can fail as networks do."""

from collections.abc import Iterator
from typing import Any

import boto3
import httpx2
import pytest

from preheat.places import s3
from tests.moto_server import moto_server
from tests.runtime.places.proxy import Proxy

NAME = "recordings"


class Bucket:
    """A bucket, as its owner sees it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.create_bucket(Bucket=NAME)

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=NAME, Key=key, Body=content)

    def contents(self, prefix: str = "") -> dict[str, str]:
        """The text of each object, by its key behind the prefix."""
        found = self.client.list_objects_v2(Bucket=NAME, Prefix=prefix).get("Contents", [])
        return {
            each["Key"].removeprefix(prefix): self.get(each["Key"])["Body"].read().decode() for each in found
        }

    def get(self, key: str) -> dict[str, Any]:
        """What S3 says of an object, and its Body."""
        return dict(self.client.get_object(Bucket=NAME, Key=key))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of moto's server."""
    with moto_server() as address:
        yield address


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """The server's proxy, which the command uses; it passes everything on unless a test sets `trouble`."""
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def bucket(server: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of an otherwise empty S3, in the environment of this process and those it starts."""
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/none",
        "AWS_SHARED_CREDENTIALS_FILE": "/none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    settings = {"aws_access_key_id": "owner", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.session.Session(**settings).client("s3", endpoint_url=server)
    httpx2.post(f"{server}/moto-api/reset").raise_for_status()
    s3.client.cache_clear()
    yield Bucket(client)
    s3.client.cache_clear()
