"""Find or remove what must not be on a disk that becomes an image.

    python3 hygiene.py check ROOT ITEMS    print a line for each path that is not as demanded; exit 1 if any
    python3 hygiene.py clean ROOT ITEMS    reset those paths and print them; exit 0

ROOT is the root folder of the disk, / on the machine itself. ITEMS is a JSON list of {path, state, reason},
explained in the role's vars/main.yml. The standard library only: it runs on the machine's own Python.
"""

import glob
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

Item = dict[str, str]

HOMES = ("/root", "/home/*")
LOCALHOST = b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def findings(root: Path, items: list[Item]) -> Iterator[tuple[Item, Path]]:
    """Each path that violates an item, with the item."""
    for item in items:
        for pattern in patterns(item["path"]):
            names = glob.glob(pattern, root_dir=root, include_hidden=True)  # noqa: PTH207  it skips broken links
            for name in sorted(names):
                for path in offenders(root / name, item["state"]):
                    yield item, path


def patterns(path: str) -> list[str]:
    """An item's path as globs below the root folder; ~ is every home."""
    return [path.replace("~", home, 1).lstrip("/") for home in (HOMES if path.startswith("~/") else [""])]


def offenders(path: Path, state: str) -> list[Path]:
    """The paths that violate a state, to be removed, or to be emptied if they are files of state `empty`."""
    if state == "absent":
        return [path]
    is_folder = path.is_dir() and not path.is_symlink()
    if state == "empty":
        if is_folder:
            return sorted(path.iterdir())
        return [path] if path.is_symlink() or path.stat().st_size else []
    if state == "localhost":
        as_demanded = path.is_file() and not path.is_symlink() and path.read_bytes() == LOCALHOST
        return [] if as_demanded else [path]
    if state == "folders":
        inside = sorted(path.rglob("*")) if is_folder else [path]
        return [entry for entry in inside if entry.is_symlink() or not entry.is_dir()]
    raise ValueError(f"unknown state {state!r} of {path}")


def reset(item: Item, path: Path, root: Path) -> None:
    """Bring a path to the state that its item demands."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif item["state"] == "localhost" and not path.is_symlink():
        path.write_bytes(LOCALHOST)
    elif item["state"] == "empty" and path == root / item["path"].lstrip("/"):
        path.write_bytes(b"")
    else:
        path.unlink()


def main() -> int:
    """The command line; returns the exit code."""
    command, root, items = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    found = list(findings(root, items))
    for item, path in found:
        if command == "clean":
            reset(item, path, root)
        print(f"{path}: must be {item['state']}: {item['reason']}")
    return 1 if found and command == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
