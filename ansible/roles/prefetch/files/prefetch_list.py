"""Make and check prefetch.list: what a start reads, in the order of first use.

    python3 prefetch_list.py make LIST INPUTS STATE BOOT START   make LIST from what record.py has written
    python3 prefetch_list.py check LIST STATE                    exit 1 and say why if LIST cannot be right
    python3 prefetch_list.py sizes LIST                          print LIST's entry in image.json, as JSON

INPUTS says what the list depends on, so that the role knows whether it is still valid. STATE is the state
file, which is listed whole, because every start reads all of it: for a GPU with O_DIRECT, which record.py
cannot see. Run as root on the builder, by the machine's own Python; standard library only.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

HEAD = """\
# What a boot, transcribe and the fleet's worker read, in the order of use: offset, length (bytes), path.
# The role prefetch recorded it on the builder of this image; preheat-prefetch.service reads it ahead.
# inputs: {inputs}
"""
PAGE = 4096
GAP = 32 << 10
NEEDED = ("/python3", "/libtorch_cpu.so")  # every start reads the interpreter and the largest library

Range = tuple[str, int, int]  # path, offset, length


def ranges(file: Path) -> list[Range]:
    """The ranges of a list."""
    found = []
    for line in os.fsdecode(file.read_bytes()).splitlines():
        if line and not line.startswith("#"):
            offset, length, path = line.split(" ", 2)
            found.append((path, int(offset), int(length)))
    return found


def less(wanted: list[Range], had: list[Range]) -> Iterator[Range]:
    """The ranges `wanted` without the pages in `had`; gaps of up to GAP bytes are included."""
    left: dict[str, set[int]] = {}
    ends: dict[str, int] = {}
    for path, offset, length in wanted:
        left.setdefault(path, set()).update(range(offset, offset + length, PAGE))
        ends[path] = max(ends.get(path, 0), offset + length)
    for path, offset, length in had:
        left.get(path, set()).difference_update(range(offset, offset + length, PAGE))
    for path, pages in left.items():
        for begin, end in runs(sorted(pages)):
            yield path, begin, min(end, ends[path]) - begin


def runs(pages: list[int]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of pages, from sorted offsets; gaps of up to GAP bytes do not end a run."""
    if not pages:
        return
    begin = end = pages[0]
    for at in pages:
        if at - end > GAP:
            yield begin, end
            begin = at
        end = at + PAGE
    yield begin, end


def make(target: Path, inputs: str, state: str, boot: Path, start: Path) -> None:
    """Write the list atomically."""
    booted = list(less(ranges(boot), []))
    started = less([part for part in ranges(start) if part[0] != state], booted)
    first = [*booted, *started, (state, 0, Path(state).stat().st_size)]
    lines = [HEAD.format(inputs=inputs).encode()]
    lines += [f"{offset} {length} ".encode() + os.fsencode(path) + b"\n" for path, offset, length in first]
    unfinished = target.with_name(f".{target.name}")
    unfinished.write_bytes(b"".join(lines))
    unfinished.chmod(0o644)
    unfinished.rename(target)


def faults(target: Path, state: str) -> Iterator[str]:
    """Errors in the list."""
    listed = ranges(target)
    sizes: dict[str, int] = {}
    for path, offset, length in listed:
        sizes[path] = sizes.get(path, 0) + length
        if not Path(path).is_file():
            yield f"{path} is not there"
        elif offset + length > Path(path).stat().st_size:
            yield f"{path} is shorter than {offset + length} bytes"
    for needed in NEEDED:
        if not any(needed in path for path in sizes):
            yield f"nothing of {needed.strip('/')} is listed"
    if sizes.get(state) != Path(state).stat().st_size:
        yield f"the state file {state} is not listed whole"


def main() -> int:
    """The command line; returns the exit code."""
    match sys.argv[1:]:
        case ["make", target, inputs, state, boot, start]:
            make(Path(target), inputs, state, Path(boot), Path(start))
            return 0
        case ["check", target, state]:
            found = list(faults(Path(target), state))
            for fault in found:
                print(fault, file=sys.stderr)
            return 1 if found else 0
        case ["sizes", target]:
            listed = ranges(Path(target))
            sizes = {"files": len({path for path, *_ in listed}), "bytes": sum(part[2] for part in listed)}
            print(json.dumps(sizes))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
