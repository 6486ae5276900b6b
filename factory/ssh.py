"""A machine that is reached by ssh: a local one, or an instance of EC2."""

from dataclasses import dataclass
from pathlib import Path

from factory.console import run

# Host keys are not checked, because every machine is new. ServerAlive: do not wait for one that has died.
SSH_CONFIG = """\
Host machine
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {key}
  IdentitiesOnly yes
  BatchMode yes
  ConnectTimeout 30
  ServerAliveInterval 15
  ServerAliveCountMax 8
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


@dataclass(frozen=True)
class Machine:
    """A booted machine that answers ssh."""

    name: str
    port: int
    user: str
    key: Path
    config: Path  # of ssh: `ssh -F CONFIG machine` logs in
    console: Path

    def ssh(self, *options: str) -> list[str]:
        """The ssh command, to which a remote command may be appended."""
        return ["ssh", "-F", str(self.config), *options, "machine"]

    def run(self, command: str) -> str:
        """Run a shell command on the machine and return its stdout; FactoryError if it fails."""
        return run(*self.ssh(), command)

    def upload(self, source: Path, target: str) -> None:
        """Copy a file of the host to the machine."""
        run("scp", "-q", "-F", self.config, source, f"machine:{target}")
