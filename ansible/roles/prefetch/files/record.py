"""Record which parts of which files are read, in the order of first use: the data for prefetch.list.

    python3 record.py forget                drop all files from the page cache
    python3 record.py run FILE COMMAND...   forget, run a command, write to FILE what it has read
    python3 record.py boot FILE LAST        started early in the boot: write to FILE what is read until any
                                            process opens the file LAST

Run as root on the builder, after everything is installed. It combines two sources: fanotify(7) says which
files are opened, in which order; mincore(2) says which of their pages are in the page cache afterwards,
whether they were read by read(2) or through a mapping. Meanwhile the kernel's read-ahead is limited to one
page, because by default it reads two to four times what is needed. Pages that a running program has mapped
cannot be dropped, and count as read if the file is opened; on the builder, these are mostly pages that a boot
reads anyway.

It runs on the machine's own Python, with the standard library only.
"""

import ctypes
import os
import select
import stat
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

PAGE = 4096

# Not worth reading ahead: files that each machine makes for itself, or that are not in the finished image.
PASSED_OVER = ("/home/", "/root/", "/run/", "/tmp/", "/var/", "/etc/ssh/ssh_host_")  # noqa: S108  only compared
RESET = {
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/systemd/system/preheat-record.service",
}
SYSFS = "/run/preheat-sysfs"
ON_DISK = {"btrfs", "ext4", "overlay", "xfs"}

FAN_CLOEXEC, FAN_UNLIMITED_QUEUE = 0x1, 0x10
FAN_MARK_ADD, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM = 0x1, 0x10, 0x100
FAN_OPEN, FAN_OPEN_EXEC = 0x20, 0x1000
AT_FDCWD = -100
EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]


def failed(name: str) -> OSError:
    """The OSError for a failed function of the C library, from errno."""
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}")


class Opened:
    """The files that any process opens from now on, in order, without duplicates."""

    def __init__(self) -> None:
        """Start listening. Raises OSError."""
        self.paths: dict[str, None] = {}
        self._queue = libc.fanotify_init(FAN_CLOEXEC | FAN_UNLIMITED_QUEUE, os.O_RDONLY | os.O_LARGEFILE)
        if self._queue < 0:
            raise failed("fanotify_init")
        for mount in disks():
            # A unit may have the root in its own mount namespace. Other mounts may be the host's.
            kind = FAN_MARK_FILESYSTEM if mount == "/" else FAN_MARK_MOUNT
            mask = FAN_OPEN | FAN_OPEN_EXEC
            if libc.fanotify_mark(self._queue, FAN_MARK_ADD | kind, mask, AT_FDCWD, os.fsencode(mount)):
                raise failed(f"fanotify_mark {mount}")

    def collect(self, seconds: float) -> None:
        """Take the queued events; if there are none, wait `seconds` at most for one."""
        while select.select([self._queue], [], [], seconds)[0]:
            seconds = 0
            events = os.read(self._queue, 1 << 16)
            while events:
                length, _, _, _, _, file, _ = EVENT.unpack_from(events)
                events = events[length:]
                if file >= 0:
                    self.paths.setdefault(os.readlink(f"/proc/self/fd/{file}"))
                    os.close(file)


def disks() -> Iterator[str]:
    """The mount points of file systems on disks."""
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        for line in lines:
            _, mount, kind, *_ = line.split()
            if kind in ON_DISK and os.path.isdir(mount):
                yield mount


def everything() -> Iterator[str]:
    """Every file of the root file system."""
    device = os.lstat("/").st_dev
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device]
        yield from (os.path.join(folder, name) for name in names)


def forget() -> None:
    """Drop all files from the page cache; in a container, /proc/sys/vm/drop_caches cannot be written."""
    os.sync()  # dirty pages cannot be dropped
    for path in everything():
        if is_listed(path):
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def is_listed(path: str) -> bool:
    """Whether a path is a regular file that is worth reading ahead."""
    if path in RESET or path.startswith(PASSED_OVER) or "\n" in path:
        return False
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:  # it is gone already
        return False


@contextmanager
def read_ahead() -> Iterator[None]:
    """Limit the kernel's read-ahead on the root file system's disk to one page, for the block.

    Without a block device, as in a container, it has no effect. /sys may be read-only, so sysfs is mounted
    again elsewhere.
    """
    device = os.lstat("/").st_dev
    os.makedirs(SYSFS)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", SYSFS], check=True)
    try:
        disk = os.path.realpath(f"{SYSFS}/dev/block/{os.major(device)}:{os.minor(device)}")
        if not os.path.exists(f"{disk}/queue"):  # it is a partition
            disk = os.path.dirname(disk)
        knob = f"{disk}/queue/read_ahead_kb"
        before = write_knob(knob, str(PAGE // 1024))
        try:
            yield
        finally:
            write_knob(knob, before)
    finally:
        subprocess.run(["umount", SYSFS], check=True)
        os.rmdir(SYSFS)


def write_knob(path: str, value: str) -> str:
    """Write a kernel setting, if it exists; returns the old value."""
    if not os.path.exists(path):
        return ""
    with open(path, "r+", encoding="ascii") as file:
        before = file.read()
        file.write(value)
    return before


def resident(path: str) -> Iterator[tuple[int, int]]:
    """Offset and length of each range of a file that is in the page cache."""
    size = os.stat(path).st_size
    if not size:
        return
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    address = libc.mmap(None, size, 1, 1, file, 0)  # PROT_READ, MAP_SHARED
    os.close(file)
    if address == ctypes.c_void_p(-1).value:
        raise failed(f"mmap {path}")
    pages = -(-size // PAGE)
    seen = ctypes.create_string_buffer(pages)
    answer = libc.mincore(address, size, seen)
    libc.munmap(address, size)
    if answer:
        raise failed(f"mincore {path}")
    begin = -1
    for page, flags in enumerate(seen.raw[:pages] + b"\0"):
        if flags & 1 and begin < 0:
            begin = page * PAGE
        elif not flags & 1 and begin >= 0:
            yield begin, min(page * PAGE, size) - begin
            begin = -1


def write(target: str, paths: Iterable[str]) -> None:
    """Write a line for each resident range of files: offset, length, path."""
    with open(target, "wb") as file:
        for path in paths:
            if is_listed(path):
                for offset, length in resident(path):
                    file.write(f"{offset} {length} ".encode() + os.fsencode(path) + b"\n")


def run(target: str, command: list[str]) -> int:
    """Run a command with an empty page cache, and write what it has read."""
    forget()
    with read_ahead():
        opened = Opened()
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                opened.collect(0.1)
        opened.collect(0)
    write(target, opened.paths)
    return process.returncode


def boot(target: str, last: str) -> int:
    """Write what has been read since the boot, once a process opens `last`."""
    with read_ahead():
        opened = Opened()
        while last not in opened.paths:
            opened.collect(1)
    paths = list(opened.paths)
    # First come files that PID 1 and others had read before this process started.
    before = (path for path in everything() if path not in opened.paths)
    write(target, [*before, *paths[: paths.index(last)]])
    return 0


def main() -> int:
    """The command line; returns the exit code."""
    match sys.argv[1:]:
        case ["forget"]:
            forget()
            return 0
        case ["run", target, *command] if command:
            return run(target, command)
        case ["boot", target, last]:
            return boot(target, last)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
