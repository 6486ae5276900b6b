"""The command line of worker.py, and the start of the worker."""

import argparse
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from preheat import timing
from preheat.delivery import Recipe
from preheat.fleet import metadata, notice, records
from preheat.fleet.engine import Engine
from preheat.fleet.group import Group
from preheat.fleet.jobs import Rules
from preheat.fleet.lifecycle import Lifecycle, say
from preheat.fleet.queue import Queue
from preheat.fleet.sender import Sender
from preheat.fleet.settings import Settings, settings
from preheat.fleet.worker import Worker
from preheat.options import UsageError
from preheat.places import aws
from preheat.subtitles import Lines
from preheat.timing import Log, now, reason, warn
from preheat.weights.loading import DEVICES, ModelError, default_home

ATTEMPTS = 3  # for each request, unless it is to S3
STOP = 90.0  # s from SIGTERM to the end: less than the unit's TimeoutStopSec
WRONG, NO_MODEL, NO_METADATA = 2, 3, 5  # exit codes
METADATA_SECONDS = 60.0  # for which an instance in a group waits for its metadata


def worker(words: list[str]) -> int:
    """Run the worker; returns the exit code."""
    parser = argparse.ArgumentParser("worker.py", description="Transcribe the recordings that a queue names.")
    parser.add_argument("--home", type=Path, default=default_home(), help="folder that has model/ and state/")
    parser.add_argument("--device", choices=("auto", *DEVICES), default="auto", help="where the model runs")
    args = parser.parse_args(words)
    timing.program = "worker"
    try:
        return run(settings(os.environ), args.home, args.device)
    except UsageError as error:
        warn(str(error))
        return WRONG
    except ModelError as error:
        warn(str(error))
        return NO_MODEL
    except metadata.MetadataError as error:
        warn(f"{error}; without its id the instance could not end itself: the worker is to be started again")
        return NO_METADATA


def run(chosen: Settings, home: Path, device: str) -> int:
    """Open the model, and work until the end. Raises UsageError, ModelError and MetadataError."""
    log = Log(quiet=False)
    about = metadata.Metadata()
    host = metadata.wait_for_host(about, METADATA_SECONDS) if chosen.group else host_if_any(about)
    watch = notice.Notice(about, say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watch.leave(STOP))
    engine = Engine(home, device, log)
    engine.check(chosen.choices.options)
    sqs = connected("sqs", max_pool_connections=8, read_timeout=60)
    queue = Queue(sqs, chosen.queue)
    sender = (
        Sender(connected("logs"), chosen.log_group, host.instance or "unknown") if chosen.log_group else None
    )
    group = None
    if chosen.group:
        group = Group(connected("autoscaling"), chosen.group, chosen.hook, host.instance)

    def tell(line: str) -> None:
        with suppress(OSError):  # nobody reads it
            print(line, flush=True)
        if sender:
            sender.add(line)

    builder = records.RecordBuilder(chosen.fleet, host, engine.name)
    recipe = Recipe(chosen.choices.options, Lines(), False, home, engine.name)
    rules = Rules(chosen.output, chosen.choices, recipe, engine.check)
    worker = Worker(queue, engine, rules, builder, tell)

    def ready() -> None:
        builder.startup = startup(host)
        if chosen.ready_file:
            chosen.ready_file.touch()
        say("ready")

    def alive() -> None:
        if chosen.ready_file:
            with suppress(OSError):  # not ready yet
                os.utime(chosen.ready_file)

    return Lifecycle(worker, watch, group, sender, chosen.idle).run(ready, alive)


def host_if_any(about: metadata.Metadata) -> metadata.Host:
    """The instance, or what is known of a machine that may be none."""
    try:
        return metadata.host(about)
    except metadata.MetadataError as error:
        warn(f"{error}; this is taken for no instance of EC2")
        return metadata.Host()


def connected(service: str, **settings: Any) -> Any:
    """A connection to a service of AWS. Raises UsageError."""
    try:
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        return aws.client(service, retries=retries, connect_timeout=10, **settings)
    except Exception as error:
        raise UsageError(f"{service}: {reason(error)}; see AWS_REGION and AWS_ENDPOINT_URL") from error


def startup(host: metadata.Host) -> records.Startup:
    """How the worker came to be ready, which it is now."""
    at = time.time()
    if host.launch is None:
        return records.Startup(ready=now())
    kernel = at - time.clock_gettime(time.CLOCK_BOOTTIME)
    # A launch after the kernel's start: the clock is not right yet, or this machine is no instance.
    booted = kernel - host.launch if kernel >= host.launch else None
    return records.Startup(booted, now(), at - host.launch)
