"""An instance of the fleet: the worker as a process of its own, its metadata service and its way to AWS."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import IO, Any

from tests.fleet.gateway import Gateway
from tests.fleet.metadata_server import MetadataServer, instant
from tests.runtime.homes import RUNTIME

PATIENCE = 90.0  # s, for what takes a moment on an idle machine
AMI = "ami-12c6146b"  # one that moto knows
REGION = "us-east-1"


def wait(for_what: str, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; fail the test if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {for_what}"
        time.sleep(0.02)


class Instance:
    """One instance; `start` boots it."""

    def __init__(
        self, server: str, home: Path, identity: str, folder: Path, settings: dict[str, str]
    ) -> None:
        """`folder`: its disk, for temporary files; `settings`: what user data write into worker.env."""
        self.identity = identity
        self.records: list[dict[str, Any]] = []  # of jobs, as the worker writes them to its stdout
        self.said: list[str] = []  # lines on its stderr
        self._home, self._folder = home, folder
        self._open = ExitStack()
        self.gateway = self._open.enter_context(Gateway(server))
        self.metadata = self._open.enter_context(MetadataServer())
        self.metadata.answers |= {
            "instance-id": identity,
            "instance-type": "g6.xlarge",
            "instance-life-cycle": "spot",
            "ami-id": AMI,
            "placement/region": REGION,
            "placement/availability-zone": f"{REGION}a",
            "autoscaling/target-lifecycle-state": "InService",
            "dynamic/instance-identity/document": json.dumps({"pendingTime": instant(-20)}),
        }
        self.settings = settings
        self._readers: list[Thread] = []

    def start(self, **settings: str) -> None:
        """Start the worker; `settings` add to its environment."""
        (self._folder / "run").mkdir(parents=True, exist_ok=True)
        (self._folder / "run/ready").unlink(missing_ok=True)
        (self._folder / "tmp").mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder / "tmp"),
            "RUNTIME_DIRECTORY": str(self._folder / "run"),
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
            "AWS_ENDPOINT_URL": self.gateway.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.url,
            "AWS_REGION": REGION,
        }
        self.process = subprocess.Popen(
            [sys.executable, RUNTIME / "worker.py", "--home", self._home, "--device", "cpu"],
            env=environment | self.settings | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said.clear()
        self._read(self.process.stdout, lambda line: self.records.append(json.loads(line)))
        self._read(self.process.stderr, self.said.append)

    def ready(self) -> "Instance":
        """Wait until it polls."""
        wait(
            "the worker to be ready",
            lambda: any(line.endswith("ready") for line in self.said) or self.process.poll() is not None,
        )
        assert self.runs, "\n".join(self.said)
        return self

    @property
    def runs(self) -> bool:
        """Whether the worker runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill the worker, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()

    def shut_down(self) -> None:
        """What systemd does when the machine is shut down."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for the worker's own end; its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker runs on: {self.said}") from None
        for reader in self._readers:
            reader.join(10)
        return code

    def close(self) -> None:
        """Switch it off."""
        if hasattr(self, "process"):
            self.kill()
        self._open.close()

    def job(self, key: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The record of the job on a key, the first; waits for it."""
        wait(f"a record of {key}", lambda: self.jobs(key), seconds)
        return self.jobs(key)[0]

    def jobs(self, key: str) -> list[dict[str, Any]]:
        """The records of jobs on a key so far."""
        return [each for each in self.records if str(each.get("recording", "")).endswith(f"/{key}")]

    def _read(self, stream: IO[str] | None, take: Callable[[str], None]) -> None:
        assert stream

        def work() -> None:
            with stream:
                for line in stream:
                    take(line.rstrip("\n"))

        self._readers.append(Thread(target=work, daemon=True))
        self._readers[-1].start()
