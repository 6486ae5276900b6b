"""Instance metadata (IMDSv2): what the instance is, and what is about to happen to it."""

import json
import os
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from preheat.fleet.events import moment

ADDRESS = "http://169.254.169.254"
LIFETIME = 21600  # s of a token
PATIENCE = 2.0  # s for an answer
EVERY = 1.0  # s between attempts to get one
MISSING, UNAUTHORIZED = 404, 401  # HTTP status codes


class MetadataError(Exception):
    """No answer: this is no instance of EC2, or its metadata are out of reach. One line."""


class Metadata:
    """The metadata service. It is asked directly, without a proxy."""

    def __init__(self) -> None:
        self._address = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ADDRESS
        self._token: str | None = None

    def get(self, path: str) -> str | None:
        """What is at a path below /latest/; None if there is nothing. Raises MetadataError."""
        for _ in range(2):  # a token may have expired
            if self._token is None:
                asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(LIFETIME)}
                self._token = self._ask("PUT", "api/token", asked)[1]
            status, text = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
            if status == UNAUTHORIZED:
                self._token = None
                continue
            return None if status == MISSING else text
        raise MetadataError(f"{self._address} accepts no token")

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        address = urlsplit(self._address)
        connection = HTTPConnection(address.hostname or "", address.port or 80, timeout=PATIENCE)
        try:
            connection.request(method, f"{address.path.rstrip('/')}/latest/{path}", headers=headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read().decode()
        except (OSError, HTTPException, ValueError) as error:
            raise MetadataError(f"{self._address} does not answer: {error}") from error
        finally:
            connection.close()
        if status not in (200, MISSING, UNAUTHORIZED):
            raise MetadataError(f"{self._address} answers {status} for {path}")
        return status, text


@dataclass(frozen=True)
class Host:
    """The instance that this worker runs on; "" is what is not known."""

    instance: str = ""
    instance_type: str = ""
    lifecycle: str = ""  # "spot" or "on-demand"
    ami: str = ""
    launched: str = ""  # ISO 8601

    @property
    def launch(self) -> float | None:
        """When it was launched, in seconds since 1970."""
        return moment(self.launched) if self.launched else None


def host(metadata: Metadata) -> Host:
    """The instance. Raises MetadataError."""

    def get(name: str) -> str:
        return metadata.get(f"meta-data/{name}") or ""

    document: Any = json.loads(metadata.get("dynamic/instance-identity/document") or "{}")
    return Host(
        instance=get("instance-id"),
        instance_type=get("instance-type"),
        lifecycle=get("instance-life-cycle"),
        ami=get("ami-id"),
        launched=document.get("pendingTime", ""),
    )


def wait_for_host(metadata: Metadata, seconds: float) -> Host:
    """The instance, whose metadata may not answer at first. Raises MetadataError after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            if (found := host(metadata)).instance:
                return found
            raise MetadataError("the metadata have no instance-id")
        except MetadataError:
            if time.monotonic() >= until:
                raise
        time.sleep(EVERY)
