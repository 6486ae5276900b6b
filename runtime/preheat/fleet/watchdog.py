"""Ends an instance whose worker is not ready, or hangs, so that nobody pays for what does not work.

It needs as little as possible: whatever keeps the worker from its work must not keep this from its own.
"""

import os
import subprocess
import time
from pathlib import Path

from preheat import timing
from preheat.fleet.group import Group
from preheat.fleet.metadata import Metadata
from preheat.places import aws
from preheat.timing import reason, warn

FOLDER = "/run/preheat"  # the worker's RuntimeDirectory
PATIENCE = 900.0  # s
HANGS = 3600.0  # s without a step after which a worker is taken to hang: far longer than any step takes
EVERY = 5.0  # s


def watchdog(words: list[str]) -> int:
    """End the instance once its worker was not ready for PREHEAT_READY_SECONDS, or hangs; the exit code."""
    del words
    timing.program = "watchdog"
    patience = float(os.environ.get("PREHEAT_READY_SECONDS") or PATIENCE)
    problem = watch(Path(os.environ.get("RUNTIME_DIRECTORY") or FOLDER) / "ready", patience)
    warn(f"{problem}; see its journal: the instance ends")
    try:
        end()
    except Exception as error:
        warn(f"{reason(error)}; the instance is switched off, which ends it")
        return subprocess.run(["systemctl", "poweroff"], check=False).returncode
    return 0


def watch(ready: Path, patience: float) -> str:
    """Return why the instance is to end: a file is missing for `patience` s, or not touched for HANGS.

    A worker that starts again has the time anew.
    """
    there = touched = time.monotonic()
    last: int | None = None
    while True:
        if (now := time.monotonic()) - there >= patience:
            return f"the worker was not ready for {patience:.0f} s"
        if now - touched >= HANGS:
            return f"the worker has made no step for {HANGS:.0f} s"
        time.sleep(min(EVERY, patience))
        # Whether the time of the file has changed, not how old it is: clocks are set while machines boot.
        before, last = last, modified(ready)
        if last is not None:
            there = time.monotonic()
        if last is None or last != before:
            touched = time.monotonic()


def modified(file: Path) -> int | None:
    """When a file was last touched, in ns; None if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def end() -> None:
    """End the instance by its group. Raises AwsError, MetadataError, and botocore's errors."""
    instance = Metadata().get("meta-data/instance-id") or ""
    settings = {"connect_timeout": 10, "read_timeout": 30}
    group = Group(aws.client("autoscaling", **settings), os.environ.get("PREHEAT_GROUP", ""), "", instance)
    group.end_instance()
