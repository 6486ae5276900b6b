"""A local machine: a disk image booted by systemd-nspawn, reached by ssh, taken down whatever happens.

It boots the disk's own systemd, sshd and cloud-init natively, in about two seconds, without a hypervisor. It
shares the host's network, so its sshd listens on a loopback port of its own. Everything lent to it (the ssh
port, the NoCloud seed, the host's DNS) is bound below /run, a tmpfs: the disk stays as it ships.
"""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from factory.basedisk import ROOT_OFFSET
from factory.console import BUILD, MARK, SCRATCH, FactoryError, run, tail, temporary
from factory.container import Container, container, mark
from factory.mounts import mounted, unmount_below

BOOT_SECONDS = 60  # ssh answers after 4 s here; a loaded host is slower

SSHD = """\
[Service]
ExecStart=
ExecStart=/usr/sbin/sshd -D -p {port} -o ListenAddress=127.0.0.1
"""
# A machine is new each time: there is no host key to know beforehand. One that dies is not waited for.
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
# As on EC2, the key comes with the meta-data, and the user's own data may be anything.
META_DATA = "instance-id: {name}\nlocal-hostname: preheat\npublic-keys: ['{key}']\n"
USER_DATA = "#cloud-config\n{}\n"


@dataclass(frozen=True)
class Machine:
    """A booted machine that answers ssh."""

    name: str
    port: int
    user: str
    key: Path
    config: Path  # ssh's: `ssh -F CONFIG machine` logs in
    console: Path

    def ssh(self, *options: str) -> list[str]:
        """The ssh command up to where a remote command would follow."""
        return ["ssh", "-F", str(self.config), *options, "machine"]

    def run(self, command: str) -> str:
        """Run a shell command on the machine and return its stdout; FactoryError if it fails."""
        return run(*self.ssh(), command)

    def upload(self, source: Path, target: str) -> None:
        """Copy a file of the host to the machine."""
        run("scp", "-q", "-F", self.config, source, f"machine:{target}")


@contextmanager
def workspace(name: str, *, wait: bool = False) -> Iterator[Path]:
    """The folder build/run/NAME, for one run at a time, cleared of what a killed run left behind.

    Where another run has it, that is an error, or with `wait` waited for.
    """
    folder = BUILD / "run" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FactoryError(
                f"another run is using {folder}", "Wait until it has ended, or stop it with Ctrl-C."
            ) from None
        kill_stale(folder)
        unmount_below(folder)
        remove_temporary(folder)
        for scratch in (folder / SCRATCH, temporary(folder)):
            scratch.mkdir(mode=0o700, parents=True)
        try:
            with environment({MARK: f"{folder}/", "TMPDIR": str(folder / SCRATCH)}):
                yield folder
        finally:
            remove_temporary(folder)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """What is started in this block has these variables, too."""
    outer = {name: os.environ.pop(name, None) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in outer.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def remove_temporary(folder: Path) -> None:
    """Delete a workspace's temporary files, but nothing within a mount."""
    run("rm", "-rf", "--one-file-system", folder / SCRATCH, temporary(folder))


@contextmanager
def booted(disk: Path, name: str, *, keep: bool, user_data: str = USER_DATA) -> Iterator[Machine]:
    """Boot a disk image and yield the machine once ssh answers; power it off and unmount on the way out.

    With `keep` the machine writes to the disk image itself; without, to an overlay that is thrown away.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(workspace(name))
        root = stack.enter_context(mounted(disk, folder / "disk", ROOT_OFFSET, read_only=not keep))
        if not keep:
            root = stack.enter_context(overlaid(root, folder))
        yield stack.enter_context(running(root, folder, name, user_data=user_data))


@contextmanager
def running(
    root: Path, folder: Path, name: str, seconds: float = BOOT_SECONDS, user_data: str = USER_DATA
) -> Iterator[Machine]:
    """Boot a root folder and yield the machine once ssh answers, in `seconds` at most; power it off."""
    with held_port() as port:
        machine = new_machine(folder, name, port, user_data)
        (folder / "sshd").mkdir(exist_ok=True)
        (folder / "sshd/port.conf").write_text(SSHD.format(port=port))
        with container(root, folder, machine.console) as process:
            wait_for_ssh(machine, process, seconds)
            yield machine


@contextmanager
def overlaid(lower: Path, folder: Path) -> Iterator[Path]:
    """A throw-away writable layer over a read-only root; a workspace's scratch is empty at first."""
    layer, merged = folder / SCRATCH / "layer", folder / "merged"
    for path in (layer / "upper", layer / "work", merged):
        path.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "overlay", "overlay", "-o",
        f"lowerdir={lower},upperdir={layer / 'upper'},workdir={layer / 'work'}", merged)  # fmt: skip
    try:
        yield merged
    finally:
        run("umount", merged)


def new_machine(folder: Path, name: str, port: int, user_data: str = USER_DATA) -> Machine:
    """A machine's ssh key and client configuration, and the NoCloud seed that lets its user in.

    The seed is the folder `seed`: cloud-init reads from it which key the admin user accepts.
    """
    key, config, seed = folder / "key", folder / "ssh_config", folder / "seed"
    for path in (key, key.with_suffix(".pub")):
        path.unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "preheat", "-f", key)
    machine = Machine(name, port, "admin", key, config, folder / "console.log")
    config.write_text(SSH_CONFIG.format(host="127.0.0.1", port=machine.port, user=machine.user, key=key))
    seed.mkdir(exist_ok=True)
    public = key.with_suffix(".pub").read_text().strip()
    (seed / "meta-data").write_text(META_DATA.format(name=f"{name}-{int(time.time())}", key=public))
    (seed / "user-data").write_text(user_data)
    return machine


def kill_stale(folder: Path) -> None:
    """Kill what a killed run left behind: its machine and all that carries its mark.

    The mark is in the environment, so it also finds what has left the process group or lost its parent.
    """
    marks = {"cmdline": mark(folder).encode(), "environ": f"{MARK}={folder}/\0".encode()}

    def alive() -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it may end while it is looked at
                marked = any(value in (process / name).read_bytes() for name, value in marks.items())
                if marked and int(process.name) != os.getpid():
                    found.append(int(process.name))
        return found

    while pids := alive():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def wait_for_ssh(machine: Machine, process: Container | subprocess.Popen[bytes], seconds: float) -> None:
    """Return once a login succeeds; FactoryError with the end of the console if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if subprocess.run([*machine.ssh(), "true"], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.2)
    state = "ended" if process.poll() is not None else f"did not answer ssh within {seconds:.0f} s"
    raise FactoryError(
        f"the machine {machine.name} {state}:\n{tail(machine.console.read_text(errors='replace'))}",
        f"Its whole console is {machine.console}",
    )


@contextmanager
def held_port() -> Iterator[int]:
    """A TCP port on loopback that nobody else is given meanwhile, and that sshd and QEMU can still listen on.

    It is bound here and not listened on: Linux lets another listen on such a port where both, as servers do,
    set SO_REUSEADDR, and gives it to nobody who asks for any port.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port
