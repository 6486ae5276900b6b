"""A log of finished recordings, in a file beside the results: a line of JSON each.

If a recording has several lines, the last one counts.
"""

import fcntl
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any


class Journal:
    """A file of lines that several processes may append to. Truncated lines are ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, stem: str) -> dict[str, Any] | None:
        """The last line on a recording's results; the file is read once, on the first call."""
        return self._lines.get(stem)

    def add(self, facts: dict[str, Any]) -> None:
        """Append a line and sync it to the disk. Raises OSError; then nothing is appended."""
        line = json.dumps(facts).encode() + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # another writer was killed within its line
                line = b"\n" + line
            try:
                written = os.write(descriptor, line)
                if written < len(line):
                    os.write(descriptor, line[written:])  # a short write: this one raises the reason
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

    @cached_property
    def _lines(self) -> dict[str, dict[str, Any]]:
        try:
            content = self._path.read_bytes()
        except OSError:
            return {}
        found = {}
        for line in content.splitlines():
            try:
                facts = json.loads(line)
                found[facts["stem"]] = {key: facts[key] for key in ("digest", "formats", "complete")}
            except (ValueError, KeyError, TypeError):
                continue
        return found
