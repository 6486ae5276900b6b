"""Workspaces: a folder for each kind of run, cleared of whatever a killed run has left behind.

The processes that a run starts have its mark in their environment, and its mounts are below its folder, so
that the next run finds both. Only Python's standard library is used, because `make clean` needs no set-up.
"""

import fcntl
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from factory.console import BUILD, CHECKOUT, FactoryError, run

MARK = "PREHEAT_WORKSPACE"  # in the environment of all processes of a run: its workspace
SCRATCH = "scratch"  # a workspace's folder for large temporary files
FREE_SECONDS = 10


@contextmanager
def workspace(name: str, *, wait: bool = False) -> Iterator[Path]:
    """The folder build/run/NAME, for one run at a time, cleared of what a killed run left behind.

    If another run uses it: FactoryError, or with `wait` wait for it.
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
    """Add environment variables for the processes that the block starts."""
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
    within = "--one-file-system" if sys.platform == "linux" else "-x"  # BSD's option
    run("rm", "-rf", within, folder / SCRATCH, temporary(folder))


def kill_stale(folder: Path) -> None:
    """Kill the processes of a killed run: its machine and all that carry its mark.

    The mark is in the environment: it also finds processes that left the process group or lost their parent.
    """
    marks = {"cmdline": mark(folder).encode(), "environ": f"{MARK}={folder}/\0".encode()}

    def alive() -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it may end meanwhile
                marked = any(value in (process / name).read_bytes() for name, value in marks.items())
                if marked and int(process.name) != os.getpid():
                    found.append(int(process.name))
        return found

    while pids := alive():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def mark(folder: Path) -> str:
    """An argument that marks the processes of a workspace's machine: systemd-nspawn, its init, QEMU."""
    return f"preheat.machine={folder}/"


def mounts() -> list[tuple[str, Path]]:
    """Sources and targets of all mounts, in the order of the kernel's table, which writes a space as \\040.

    Empty if there is no such table: on macOS, preheat mounts nothing.
    """
    table = Path("/proc/self/mounts")
    rows = [line.split() for line in os.fsdecode(table.read_bytes() if table.exists() else b"").splitlines()]
    return [(row[0], Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), row[1]))) for row in rows]


def unmount_below(folder: Path) -> None:
    """Unmount everything below `folder`, deepest first: mounts that a killed run has left behind.

    A mount at the folder itself stays: it is a disk that the user has mounted there.
    """
    left = [(source, target) for source, target in mounts() if folder.resolve() in target.parents]
    for _, target in sorted(left, key=lambda mount: len(mount[1].parts), reverse=True):
        run("umount", target)
    for source, _ in left:
        wait_until_free(source)


def wait_until_free(device: str) -> None:
    """Wait until a loop device has let go of its file.

    A container that was killed a moment ago still holds the mount in its dying namespace; mounting the same
    file again before that is gone would let two file systems write to it.
    """
    backing = Path("/sys/block") / Path(device).name / "loop/backing_file"
    end = time.monotonic() + FREE_SECONDS
    while backing.exists():
        if time.monotonic() > end:
            raise FactoryError(
                f"{device} still holds {backing.read_text().strip()}", "Find what uses it: losetup; fuser -vm"
            )
        time.sleep(0.05)


def temporary(folder: Path) -> Path:
    """A workspace's folder for secrets and sockets: in memory, private to the user, with a short path.

    A socket's path may have 107 characters at most, and the checkout's alone may be as long. If /run is not
    writable, the folder is in /tmp, where it must not exist yet: its creator could read what is put into it.
    """
    if os.access("/run", os.W_OK):
        return Path("/run/preheat", CHECKOUT, folder.name)
    return Path("/tmp", f"preheat-{os.getuid()}-{CHECKOUT}-{folder.name}")  # noqa: S108


@contextmanager
def secrets() -> Iterator[Path]:
    """A folder for keys, for one block: in the workspace's temporary folder, which the next run clears."""
    folder = temporary(Path(os.environ[MARK])) if MARK in os.environ else None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(scratch)
