"""Ends an instance whose worker has not been ready for a while, so that nobody pays for what does not work.

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
EVERY = 5.0  # s


def watchdog(words: list[str]) -> int:
    """End the instance once its worker was not ready for PREHEAT_READY_SECONDS; returns the exit code."""
    del words
    timing.program = "watchdog"
    patience = float(os.environ.get("PREHEAT_READY_SECONDS") or PATIENCE)
    watch(Path(os.environ.get("RUNTIME_DIRECTORY") or FOLDER) / "ready", patience)
    warn(f"the worker was not ready for {patience:.0f} s, see its journal: the instance ends")
    try:
        end()
    except Exception as error:
        warn(f"{reason(error)}; the instance is switched off, which ends it")
        return subprocess.run(["systemctl", "poweroff"], check=False).returncode
    return 0


def watch(ready: Path, patience: float) -> None:
    """Return once a file has been missing for so many seconds; a worker that starts again has them anew."""
    seen = time.monotonic()
    while time.monotonic() - seen < patience:
        time.sleep(min(EVERY, patience))
        if ready.exists():
            seen = time.monotonic()


def end() -> None:
    """End the instance by its group. Raises AwsError, MetadataError, and botocore's errors."""
    instance = Metadata().get("meta-data/instance-id") or ""
    settings = {"connect_timeout": 10, "read_timeout": 30}
    group = Group(aws.client("autoscaling", **settings), os.environ.get("PREHEAT_GROUP", ""), "", instance)
    group.end_instance()
