"""What Packer's plugin makes of spot instances, which it asks a fleet for: it waits long, or crashes."""

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from factory.console import FactoryError, say, tail

# The plugin's last word before it asks for a fleet; it says nothing until there is one. Where EC2 has no
# capacity it goes on asking for three minutes; the next place is the better thing to try.
FLEET = "Created Spot Fleet launch template"
FLEET_SECONDS = 60.0

# When EC2 refuses the fleet itself, the plugin crashes, and the reason is gone.
CRASH = re.compile(r"PACKER CRASH|^panic: |panic: runtime error", re.MULTILINE)


class Patience:
    """Ends a Packer that has waited long enough for a fleet to have an instance; `lost` says that it did."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lost = False
        self.timer: threading.Timer | None = None

    def heard(self, line: str) -> None:
        """A line of Packer's ends the wait for one; the one that announces the fleet begins another."""
        if self.timer:
            self.timer.cancel()
        self.timer = threading.Timer(FLEET_SECONDS, self.lose) if FLEET in line else None
        if self.timer:
            self.timer.daemon = True
            self.timer.start()

    def lose(self) -> None:
        """Interrupt Packer, which takes down what it has made."""
        self.lost = True
        say(f"no spot instance within {FLEET_SECONDS:.0f} s")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)


def crashed(text: str, log: Path) -> FactoryError:
    """What to do about a crash of Packer or of a plugin."""
    if FLEET in text:
        return FactoryError(
            "Packer's plugin has crashed, as it does where EC2 refuses a fleet of spot instances: the reason"
            " is lost",
            "The event CreateFleet in CloudTrail has it: mostly the account's limit of spot instances, a"
            " KMS key without a grant for the role AWSServiceRoleForEC2Spot, or an iam_instance_profile that"
            " may not be passed. Or set spot = false",
        )
    return FactoryError(
        f"Packer has crashed:\n{tail(text)}", f"Try another version of it. The whole log is {log}"
    )
