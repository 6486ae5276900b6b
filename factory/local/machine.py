"""A local machine: a disk image booted by systemd-nspawn, reached by ssh, always taken down at the end.

It boots the disk's own systemd, sshd and cloud-init natively, in about two seconds, without a hypervisor. It
shares the host's network, so its sshd listens on a separate loopback port. The host's files for it (ssh port,
NoCloud seed, DNS) are bind-mounted below /run, a tmpfs, so that the disk stays as it ships.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from factory.console import FactoryError, run, tail
from factory.local.basedisk import ROOT_OFFSET
from factory.local.container import Container, container
from factory.local.mounts import mounted
from factory.ssh import SSH_CONFIG, Machine
from factory.workspace import SCRATCH, workspace

BOOT_SECONDS = 60  # measured: ssh answers after 4 s; later on a loaded host

SSHD = """\
[Service]
ExecStart=
ExecStart=/usr/sbin/sshd -D -p {port} -o ListenAddress=127.0.0.1
"""
# As on EC2: the key is in the meta-data, and the user data is free for anything.
META_DATA = "instance-id: {name}\nlocal-hostname: preheat\npublic-keys: ['{key}']\n"
USER_DATA = "#cloud-config\n{}\n"


@contextmanager
def booted(disk: Path, name: str, *, keep: bool, user_data: str = USER_DATA) -> Iterator[Machine]:
    """Boot a disk image and yield the machine once ssh answers; power it off and unmount on the way out.

    With `keep` the machine writes to the disk image itself; without it, to an overlay that is discarded.
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
    """A writable overlay on a read-only root, with its layer in the workspace's scratch folder."""
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
    """A Machine, with an ssh key and client configuration, and a NoCloud seed that authorises the key.

    The seed is the folder `seed`, from which cloud-init reads the key for the user admin.
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
    """Reserve a TCP port on loopback that sshd and QEMU can still listen on.

    It is bound here without listening. Linux then lets another socket listen on it if both set SO_REUSEADDR,
    as servers do, and does not hand it out as an ephemeral port.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port
