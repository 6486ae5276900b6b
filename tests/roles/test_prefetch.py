"""The programs of the role prefetch: the list, the reader, the recorder and the layout."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory.local.mounts import mounted

FILES = Path(__file__).parents[2] / "ansible/roles/prefetch/files"
PAGE = 4096
MIB = 1 << 20


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of the role's programs by Debian's Python, as the machine does."""
    return subprocess.run(
        ["/usr/bin/python3", FILES / name, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def read_ahead(listed: Path) -> str:
    """What the reader says of a list."""
    done = program("opt/transcribe/prefetch.py", listed)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    return line


def cached(path: Path) -> list[bool]:
    """Whether each page of a file is in the page cache."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    size = path.stat().st_size
    with path.open("rb") as file:
        address = libc.mmap(None, ctypes.c_size_t(size), 1, 1, file.fileno(), ctypes.c_long(0))
    pages = ctypes.create_string_buffer(-(-size // PAGE))
    assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
    assert libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size)) == 0
    return [bool(page & 1) for page in pages.raw[: -(-size // PAGE)]]


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert not any(cached(path))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A file of 4 MiB that is not in the page cache."""
    path = tmp_path / "a library.so"
    path.write_bytes(os.urandom(4 * MIB))
    forget(path)
    return path


# The reader.


def test_what_is_listed_is_read_and_nothing_else(tmp_path: Path, library: Path) -> None:
    listed = tmp_path / "list"
    ranges = ((0, PAGE), (MIB, PAGE * 200), (3 * MIB, 1))  # from offset 0 the kernel reads ahead itself
    lines = [f"{offset} {length} {library}" for offset, length in ranges]
    listed.write_text("\n".join(["# offset, length, path", *lines]) + "\n")
    assert read_ahead(listed).startswith("read 1 MB in ")
    pages = cached(library)
    assert pages[0]
    assert all(pages[MIB // PAGE : MIB // PAGE + 200])
    assert pages[3 * MIB // PAGE]
    assert sum(pages) == 202


def test_what_memory_has_no_room_for_is_read_past_the_cache(tmp_path: Path, library: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(FILES / 'opt/transcribe')!r}); import prefetch;"
        f"wanted, _ = prefetch.pieces('0 {4 * MIB} {library}');"
        f"reader = prefetch.Reader(wanted, cached={MIB}); reader.run(); print(sum(reader.done))"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 4 * MIB
    pages = cached(library)
    assert all(pages[: MIB // PAGE])
    assert not any(pages[MIB // PAGE :])


def test_a_file_that_is_gone_or_shorter_is_told_and_the_rest_is_read(tmp_path: Path, library: Path) -> None:
    listed, short = tmp_path / "list", tmp_path / "short"
    short.write_bytes(bytes(PAGE))
    listed.write_text(f"0 {MIB} {tmp_path}/gone\n0 {MIB} {short}\n0 {4 * MIB} {library}\n")
    said = read_ahead(listed)
    assert "; 2.09 MB could not be read" in said
    assert f"of 1 files, such as {tmp_path}/gone: No such file or directory" in said
    assert all(cached(library))


@pytest.mark.parametrize("damage", ["x 4096 {}", "0 {}", "-", "\x00\xff", "0 4096"])
def test_a_damaged_line_is_told_and_the_rest_is_read(tmp_path: Path, library: Path, damage: str) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{damage.format(library)}\n0 {4 * MIB} {library}\n")
    assert f"; 1 lines of {listed} are damaged" in read_ahead(listed)
    assert all(cached(library))


def test_a_disk_that_answers_with_errors_is_told_and_the_rest_is_read(tmp_path: Path, library: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"0 {PAGE} /proc/self/mem\n0 {4 * MIB} {library}\n")  # reading it at 0 gives EIO
    assert "such as /proc/self/mem: Input/output error" in read_ahead(listed)
    assert all(cached(library))


def test_no_list_is_told(tmp_path: Path) -> None:
    assert (
        read_ahead(tmp_path / "list") == f"nothing was read ahead: {tmp_path}/list: No such file or directory"
    )


# The list.


@pytest.fixture
def start(tmp_path: Path) -> dict[str, Path]:
    """The files that the recordings of a boot and a start name."""
    sizes = {"python3": 8 * PAGE, "libtorch_cpu": 64 * PAGE, "state": 5 * PAGE + 7}
    paths = {name: tmp_path / f"{name}.so" for name in sizes}
    for name, size in sizes.items():
        paths[name].write_bytes(bytes(size))
    return paths


def made(tmp_path: Path, start: dict[str, Path], boot: str, started: str) -> list[str]:
    """The lines of the list that is made from two recordings."""
    (tmp_path / "boot").write_text(boot.format(**start))
    (tmp_path / "start").write_text(started.format(**start))
    done = program(
        "prefetch_list.py",
        "make",
        tmp_path / "list",
        "abc",
        start["state"],
        tmp_path / "boot",
        tmp_path / "start",
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "list").read_text().splitlines()
    assert "# inputs: abc" in lines
    return [line for line in lines if not line.startswith("#")]


def test_a_boot_comes_first_and_nothing_twice(tmp_path: Path, start: dict[str, Path]) -> None:
    boot = f"0 {2 * PAGE} {{python3}}\n"
    started = f"0 {4 * PAGE} {{python3}}\n0 {PAGE} {{libtorch_cpu}}\n{PAGE} {PAGE} {{state}}\n"
    assert made(tmp_path, start, boot, started) == [
        f"0 {2 * PAGE} {start['python3']}",
        f"{2 * PAGE} {2 * PAGE} {start['python3']}",
        f"0 {PAGE} {start['libtorch_cpu']}",
        f"0 {5 * PAGE + 7} {start['state']}",  # whole, though a page was seen
    ]


def test_small_gaps_are_closed_and_ends_are_kept(tmp_path: Path, start: dict[str, Path]) -> None:
    boot = f"0 {PAGE} {{libtorch_cpu}}\n{9 * PAGE} {PAGE} {{libtorch_cpu}}\n{40 * PAGE} 5 {{libtorch_cpu}}\n"
    assert made(tmp_path, start, boot, "")[:2] == [
        f"0 {10 * PAGE} {start['libtorch_cpu']}",
        f"{40 * PAGE} 5 {start['libtorch_cpu']}",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("", None),
        ("empty", "nothing of python3 is listed"),
        ("no libtorch", "nothing of libtorch_cpu.so is listed"),
        ("no state", "is not listed whole"),
        ("gone", "is not there"),
        ("shorter", "is shorter than"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(
    tmp_path: Path, start: dict[str, Path], change: str, says: str | None
) -> None:
    lines = made(tmp_path, start, f"0 {PAGE} {{python3}}\n", f"0 {PAGE} {{libtorch_cpu}}\n")
    match change:
        case "empty":
            lines = []
        case "no libtorch":
            del lines[1]
        case "no state":
            lines[2] = f"0 {PAGE} {start['state']}"
        case "gone":
            start["libtorch_cpu"].unlink()
        case "shorter":
            start["libtorch_cpu"].write_bytes(b"")
    (tmp_path / "list").write_text("\n".join(lines) + "\n")
    done = program("prefetch_list.py", "check", tmp_path / "list", start["state"])
    assert done.returncode == (1 if says else 0)
    assert (says or "") in done.stderr


# The recorder.


def test_what_a_command_reads_is_recorded_in_its_order(tmp_path: Path) -> None:
    """Only files below /opt and similar folders are recorded; temporary ones are ignored."""
    folder = Path("/opt/preheat-test")
    folder.mkdir(exist_ok=True)
    try:
        first, second, third = (folder / name for name in ("b", "a", "c"))
        for path in (first, second, third):
            path.write_bytes(bytes(64 * PAGE))
        command = ["dd", f"if={first}", "of=/dev/null", f"bs={PAGE}", "skip=3", "count=2"]
        script = " ".join(command) + f"; cat {second} >/dev/null"
        done = program("record.py", "run", tmp_path / "out", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        lines = [line for line in (tmp_path / "out").read_text().splitlines() if f" {folder}/" in line]
        assert lines == [f"{3 * PAGE} {2 * PAGE} {first}", f"0 {64 * PAGE} {second}"]
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    assert program("record.py", "run", tmp_path / "out", "false").returncode == 1


# The layout.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small ext4 file system, mounted."""
    image, target = tmp_path / "disk.raw", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", str(PAGE), image], check=True)
    with mounted(image, target, 0):
        yield target
    done = subprocess.run(["e2fsck", "-f", "-n", image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def blocks(path: Path) -> list[int]:
    """The block on the disk of each block of a file."""
    found: list[int] = []
    lines = subprocess.run(["filefrag", "-v", path], capture_output=True, text=True, check=True).stdout
    for line in lines.splitlines():
        fields = line.replace("..", " ").replace(":", " ").split()
        if fields and fields[0].isdigit():
            found += range(int(fields[3]), int(fields[4]) + 1)
    return found


def lay(disk: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    """Lay a disk out by a list of its paths; the program's temporary file goes to the root of that disk."""
    (disk / "list").write_text("# inputs: abc\n" + "".join(f"{line}\n" for line in lines))
    code = (FILES / "layout.py").read_text().replace('"/.layout"', f'"{disk}/.layout"')
    return subprocess.run(
        ["/usr/bin/python3", "-", disk / "list"], input=code, capture_output=True, text=True, check=False
    )


def test_what_is_listed_lies_together_in_its_order(disk: Path) -> None:
    """And files keep their identity and all attributes."""
    contents = {name: os.urandom(size) for name, size in
                (("a", 3 * MIB), ("b", 5 * PAGE + 1), ("c", MIB))}  # fmt: skip
    for name, content in contents.items():
        (disk / name).write_bytes(content)
    (disk / "b").chmod(0o4751)
    os.setxattr(disk / "b", "user.note", b"kept")
    os.link(disk / "b", disk / "linked")
    before = {name: (disk / name).stat() for name in contents}
    done = lay(disk, [f"0 {5 * PAGE + 1} {disk}/b", f"{MIB} {MIB} {disk}/a", f"{PAGE} {PAGE} {disk}/c"])
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run(["sync", "--file-system", disk], check=True)
    order = [*blocks(disk / "b"), *blocks(disk / "a")[MIB // PAGE : 2 * MIB // PAGE], blocks(disk / "c")[1]]
    assert order == list(range(order[0], order[0] + len(order)))
    for name, content in contents.items():
        assert (disk / name).read_bytes() == content
        now = (disk / name).stat()
        for field in ("st_ino", "st_mode", "st_uid", "st_mtime_ns", "st_nlink", "st_size"):
            assert getattr(now, field) == getattr(before[name], field)
    assert os.getxattr(disk / "b", "user.note") == b"kept"
    assert sorted(path.name for path in disk.iterdir()) == ["a", "b", "c", "linked", "list", "lost+found"]


def test_a_program_that_runs_is_replaced_by_its_copy(disk: Path) -> None:
    tool = disk / "sleep"
    tool.write_bytes(Path("/usr/bin/sleep").read_bytes())
    tool.chmod(0o4755)
    os.chown(tool, 12, 34)
    tool.chmod(0o4755)
    os.setxattr(tool, "user.note", b"kept")
    with subprocess.Popen([tool, "60"]) as running:
        try:
            done = lay(disk, [f"0 {tool.stat().st_size} {tool}"])
        finally:
            running.terminate()
    assert (done.returncode, done.stderr) == (0, "")
    assert tool.read_bytes() == Path("/usr/bin/sleep").read_bytes()
    now = tool.stat()
    assert (now.st_mode & 0o7777, now.st_uid, now.st_gid) == (0o4755, 12, 34)
    assert os.getxattr(tool, "user.note") == b"kept"
    assert sorted(path.name for path in disk.iterdir()) == ["list", "lost+found", "sleep"]


def test_twice_is_the_same(disk: Path) -> None:
    for name in ("a", "b"):
        (disk / name).write_bytes(bytes(MIB))
    lines = [f"0 {MIB} {disk}/b", f"0 {MIB} {disk}/a"]
    for _ in range(2):
        assert lay(disk, lines).returncode == 0
        order = [*blocks(disk / "b"), *blocks(disk / "a")]
        assert order == list(range(order[0], order[0] + len(order)))


def test_another_file_system_is_left_alone(tmp_path: Path) -> None:
    """tmpfs cannot exchange extents."""
    target = tmp_path / "disk"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", target], check=True)
    try:
        (target / "a").write_bytes(bytes(MIB))
        done = lay(target, [f"0 {MIB} {target}/a"])
    finally:
        subprocess.run(["umount", target], check=True)
    assert (done.returncode, done.stdout) == (
        0,
        "the file system is not ext4: nothing is moved\n",
    )
