"""Ends an instance whose worker is not ready by now, so that nobody pays for what does not work.

It needs as little as possible: whatever keeps the worker from its work must not keep this from its own.
"""

import os
import subprocess
from pathlib import Path

from preheat import timing
from preheat.fleet.group import Group
from preheat.fleet.metadata import Metadata
from preheat.places import aws
from preheat.timing import reason, tell, warn

FOLDER = "/run/preheat"  # the worker's RuntimeDirectory


def watchdog(words: list[str]) -> int:
    """End the instance if the worker is not ready; returns the exit code."""
    del words
    timing.program = "watchdog"
    if (Path(os.environ.get("RUNTIME_DIRECTORY") or FOLDER) / "ready").exists():
        tell("info", "the worker is ready", "watchdog: the worker is ready", {})
        return 0
    seconds = os.environ.get("PREHEAT_READY_SECONDS") or "900"
    warn(f"the worker is not ready after {seconds} s: the instance ends; see the journal of preheat-worker")
    try:
        end()
    except Exception as error:
        warn(f"{reason(error)}; the instance is switched off, which ends it")
        return subprocess.run(["systemctl", "poweroff"], check=False).returncode
    return 0


def end() -> None:
    """End the instance by its group. Raises AwsError, MetadataError, and botocore's errors."""
    instance = Metadata().get("meta-data/instance-id") or ""
    settings = {"connect_timeout": 10, "read_timeout": 30}
    group = Group(aws.client("autoscaling", **settings), os.environ.get("PREHEAT_GROUP", ""), "", instance)
    group.end_instance()
