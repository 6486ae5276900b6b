"""Recordings on the web, by http and https; size and time are limited, as a server may send anything."""

from pathlib import PurePosixPath
from time import monotonic
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from preheat.places.sources import Fetched
from preheat.storage import InputError
from preheat.timing import reason

SCHEMES = ("http://", "https://")
LARGEST = 8 << 30  # bytes
LONGEST = 3600.0  # s
SILENT = 30.0  # s without a byte
REDIRECTS = 5


class Page(Fetched):
    """The recording at a URL."""

    def __init__(self, url: str) -> None:
        """Raises InputError if it is not a valid URL."""
        super().__init__(url)
        try:
            parts = urlsplit(url)
            self.stem = unquote(PurePosixPath(parts.path).stem) or parts.hostname or "recording"
        except ValueError as error:
            raise InputError(f"is not a valid URL: {reason(error)}; check it") from error
        import httpx2  # noqa: F401, PLC0415  only when used, but not later in another thread

    def fetch(self, file: BinaryIO) -> None:
        """See Fetched. Raises InputError and OSError."""
        import httpx2  # noqa: PLC0415  there by now

        settings: dict[str, Any] = {"timeout": SILENT, "follow_redirects": True, "max_redirects": REDIRECTS}
        start, size = monotonic(), 0
        try:
            with httpx2.Client(**settings) as client, client.stream("GET", self.name) as answer:
                if answer.status_code != httpx2.codes.OK:
                    said = f"{answer.status_code} {answer.reason_phrase}".strip()
                    raise InputError(f"the server answered {said}; open the URL in a browser")
                for block in answer.iter_bytes():
                    size += len(block)
                    if size > LARGEST:
                        raise InputError(f"is larger than {LARGEST >> 30} GiB; save it to a file first")
                    if monotonic() - start > LONGEST:
                        raise InputError(f"takes longer than {LONGEST:.0f} s; save it to a file first")
                    file.write(block)
        except httpx2.TimeoutException as error:
            raise InputError(f"the server sent nothing for {SILENT:.0f} s; try again later") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise InputError(f"cannot be fetched: {reason(error)}; check URL and network") from error
