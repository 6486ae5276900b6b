"""The files that a start reads, and how much of each: the data for reading them ahead.

`transcribe` runs in this process, which records each file that Python opens (with an audit hook) and how much
of each mapped file is resident at the end (/proc/self/smaps). If the page cache could be emptied, the bytes
that came from the disk are in /proc/self/io.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from bench.gpu import ours
from bench.gpu.cache import drop
from bench.gpu.place import Place, Row

SHOWN = 12  # files


def run(place: Place) -> Iterator[Row]:
    """One start, with an empty page cache if it can be dropped."""
    shape = ours.shapes(place)[0]
    path = ours.state_file(place, shape)
    opened: set[str] = set()

    def note(event: str, details: tuple[object, ...]) -> None:
        if event == "open" and isinstance(details[0], str | bytes):
            opened.add(os.fsdecode(details[0]))

    dropped = drop(place, path)
    before = counters()
    if "torch" in sys.modules:
        yield {"problem": "torch was there before the start, and is not counted"}
    sys.addaudithook(note)
    from preheat import cli  # noqa: PLC0415  its files are recorded, too

    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = cli.transcribe(ours.arguments(place, shape, ours.SHORT))
    after = counters()
    if code:
        yield {"problem": f"transcribe ended with {code}"}
    mapped = resident()
    sizes = {file: size(file) for file in opened if file not in mapped}
    read = {file: count for file, count in sizes.items() if count}
    files = sorted((read | mapped).items(), key=lambda item: -item[1])
    for file, count in files[:SHOWN]:
        how = "mapped" if file in mapped else "read"
        yield {"table": "what a start reads, the largest", "file": short(file), "how": how, "MB": count / 1e6}
    counts = {
        "files": len(files),
        "mapped, MB": sum(mapped.values()) / 1e6,
        "read, MB": sum(read.values()) / 1e6,
    }
    counts |= {f"{name}, MB": (after[name] - before[name]) / 1e6 for name in before}
    yield {"table": "all of it", "page cache": dropped} | counts
    yield {"list": [[file, count] for file, count in files]}
    yield {
        "finding": f"{len(files)} files, {sum(count for _, count in files) / 1e6:,.0f} MB, "
        f"page cache: {dropped}"
    }


def counters() -> dict[str, int]:
    """Bytes that this process has read: from any file (rchar) and from disks (read_bytes)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    values = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return {name: values[name] for name in ("rchar", "read_bytes")}


def resident() -> dict[str, int]:
    """Resident bytes of each mapped file."""
    found: dict[str, int] = {}
    file = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):  # a new mapping: the last word is its file, if it has one
            file = words[5] if len(words) > 5 and words[5].startswith("/") else ""  # noqa: PLR2004  as in proc(5)
        elif file and words[0] == "Rss:":
            found[file] = found.get(file, 0) + 1024 * int(words[1])
    return {
        file: count for file, count in found.items() if count and not file.startswith(("/dev/", "/memfd"))
    }


def size(file: str) -> int:
    """The size of a file on a disk; 0 for anything else."""
    path = Path(file)
    with suppress(OSError, ValueError):
        if path.is_file() and not str(path.resolve()).startswith(("/proc/", "/sys/", "/dev/")):
            return path.stat().st_size
    return 0


def short(file: str) -> str:
    """A file name, with the start cut off if it is long."""
    return file if len(file) <= 70 else f"…{file[-69:]}"  # noqa: PLR2004  a column's width
