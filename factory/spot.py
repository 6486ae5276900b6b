"""Workarounds for Packer's plugin, which waits long for a fleet of spot instances, or crashes."""

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from factory.console import FactoryError, say, tail

# The plugin's last line before it requests a fleet; the next one follows when there is a fleet. If EC2 has no
# capacity, it retries for three minutes; trying another zone or instance type is more promising.
FLEET = "Created Spot Fleet launch template"
FLEET_SECONDS = 60.0

# The plugin crashes if EC2 refuses the fleet, and does not print the reason.
CRASH = re.compile(r"PACKER CRASH|^panic: |panic: runtime error", re.MULTILINE)


class Patience:
    """Interrupts Packer if a fleet has no instance after FLEET_SECONDS; `lost` is true then."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lost = False
        self.timer: threading.Timer | None = None

    def heard(self, line: str) -> None:
        """Take a line of Packer's: it stops the timer, and FLEET starts it again."""
        if self.timer:
            self.timer.cancel()
        self.timer = threading.Timer(FLEET_SECONDS, self.lose) if FLEET in line else None
        if self.timer:
            self.timer.daemon = True
            self.timer.start()

    def lose(self) -> None:
        """Interrupt Packer, which then removes what it has made."""
        self.lost = True
        say(f"no spot instance within {FLEET_SECONDS:.0f} s")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)


def crashed(text: str, log: Path) -> FactoryError:
    """The error for a crash of Packer or of a plugin, with what to do about it."""
    if FLEET in text:
        return FactoryError(
            "Packer's plugin has crashed, as it does if EC2 refuses a fleet of spot instances; it does not"
            " print the reason",
            "See the event CreateFleet in CloudTrail. Usual reasons: the account's spot quota, a KMS key"
            " without a grant for the role AWSServiceRoleForEC2Spot, an iam_instance_profile that may not be"
            " passed. Or set spot = false",
        )
    return FactoryError(
        f"Packer has crashed:\n{tail(text)}", f"Try another version of it. The whole log is {log}"
    )
