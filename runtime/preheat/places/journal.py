"""What is done, in a file beside the results: one line of JSON for each recording, the last one counts."""

import fcntl
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any


class Journal:
    """A file of lines that several processes may add to. A line that was cut short counts for nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, stem: str) -> dict[str, Any] | None:
        """The last line on a recording's results, as it was when first asked."""
        return self._lines.get(stem)

    def add(self, facts: dict[str, Any]) -> None:
        """Add a line, on the disk when this returns. Raises OSError; then nothing is added."""
        line = json.dumps(facts).encode() + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # somebody was killed while writing his
                line = b"\n" + line
            try:
                written = os.write(descriptor, line)
                if written < len(line):
                    os.write(descriptor, line[written:])  # fails, and says why
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
