"""systemd-nspawn: boots a folder as a machine, and starts it again when the machine reboots."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import BinaryIO

from factory.workspace import mark

SHUTDOWN_SECONDS = 30

# In a container, systemd and cloud-init read PID 1's arguments instead of the kernel command line.
INIT_ARGUMENTS = (
    "ds=nocloud;s=file:///run/seed/",
    "network-config=disabled",  # it shares the host's network
    "systemd.mask=systemd-resolved.service",  # its port is taken by the host's, which it uses instead
    "systemd.mask=systemd-remount-fs.service",  # the root is mounted from outside
)


class Container:
    """A machine under systemd-nspawn, which is started again when it ends because the machine reboots."""

    REBOOTS = 133  # systemd-nspawn's exit code for a reboot

    def __init__(self, command: list[str], log: BinaryIO) -> None:
        self._command, self._log = command, log
        self._stopping = Lock()
        self._process = self._start()
        Thread(target=self._watch, daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        # In its own session, so that Ctrl-C reaches this program but not the machine.
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _watch(self) -> None:
        while self._process.wait() == self.REBOOTS:
            if not self._stopping.acquire(blocking=False):
                return
            self._process = self._start()
            self._stopping.release()

    def poll(self) -> int | None:
        """The exit code, or None while it runs or reboots."""
        code = self._process.poll()
        return None if code == self.REBOOTS else code

    def stop(self) -> None:
        """Power off cleanly, or by force if it hangs."""
        self._stopping.acquire()
        self._process.terminate()  # systemd-nspawn turns this into an orderly shutdown
        try:
            self._process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def container(root: Path, folder: Path, console: Path) -> Iterator[Container]:
    """Boot `root` under systemd-nspawn; power it off cleanly at the end, or by force if it hangs."""
    command = [
        "systemd-nspawn", "--quiet", f"--directory={root}", "--boot",
        # Not registered, without a unit: the host's init need not be systemd.
        "--register=no", "--keep-unit", "--console=pipe", "--hostname=preheat", "--resolv-conf=off",
        # The role prefetch uses fanotify to record which files are opened.
        "--system-call-filter=fanotify_init fanotify_mark",
        f"--bind-ro={folder / 'seed'}:/run/seed",
        f"--bind-ro={folder / 'sshd'}:/run/systemd/system/ssh.service.d",
        f"--bind-ro={Path('/etc/resolv.conf').resolve()}:/run/systemd/resolve/stub-resolv.conf",
        *INIT_ARGUMENTS, mark(folder),
    ]  # fmt: skip
    with console.open("wb") as log:
        machine = Container(command, log)
        try:
            yield machine
        finally:
            machine.stop()
