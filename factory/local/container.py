"""systemd-nspawn: it boots a folder as a machine, and again when the machine reboots."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import BinaryIO

from factory.workspace import mark

SHUTDOWN_SECONDS = 30

# systemd and cloud-init in a container read PID 1's arguments as a kernel's command line.
INIT_ARGUMENTS = (
    "ds=nocloud;s=file:///run/seed/",
    "network-config=disabled",  # the network is the host's
    "systemd.mask=systemd-resolved.service",  # it would fight the host's for its port; the host's is lent
    "systemd.mask=systemd-remount-fs.service",  # the root is mounted from outside
)


class Container:
    """A machine under systemd-nspawn, which is started again when it ends because the machine reboots."""

    REBOOTS = 133  # its exit code then

    def __init__(self, command: list[str], log: BinaryIO) -> None:
        self._command, self._log = command, log
        self._stopping = Lock()
        self._process = self._start()
        Thread(target=self._watch, daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own, so that Ctrl-C reaches this program and not the machine.
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
        """The exit code once it has ended for good."""
        code = self._process.poll()
        return None if code == self.REBOOTS else code

    def stop(self) -> None:
        """Power off in order, or by force if it hangs."""
        self._stopping.acquire()
        self._process.terminate()  # systemd-nspawn turns this into an orderly shutdown
        try:
            self._process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def container(root: Path, folder: Path, console: Path) -> Iterator[Container]:
    """Boot `root` under systemd-nspawn; power it off in order at the end, by force if it hangs."""
    command = [
        "systemd-nspawn", "--quiet", f"--directory={root}", "--boot",
        # No registration and no unit: the host's PID 1 need not be systemd.
        "--register=no", "--keep-unit", "--console=pipe", "--hostname=preheat", "--resolv-conf=off",
        # The role prefetch records what is opened.
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
