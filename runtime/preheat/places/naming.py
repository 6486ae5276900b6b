"""Finds the recordings that the command line names, and gives each a name for its results.

A recording in a folder or prefix is named by its path there, one given directly by its file name. If two
would get the same name, they keep more of their paths, and then their suffixes.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from preheat.options import UsageError
from preheat.places import s3
from preheat.places.sources import File, Object, Source, Stdin
from preheat.places.web import SCHEMES, Page
from preheat.storage import InputError
from preheat.timing import warn

RECORDINGS = (  # suffixes; in folders, files with any other one are skipped
    "3g2 3ga 3gp aac ac3 aif aifc aiff amr ape asf au avi awb caf dsf dss dts eac3 f4a f4v flac flv "
    "gsm m2ts m4a m4b m4r m4v mka mkv mov mp1 mp2 mp3 mp4 mpc mpeg mpg mts mxf nut oga ogg ogv ogx "
    "oma opus ra rm sln snd sph spx tak ts tta voc vob w64 wav wave weba webm wma wmv wtv wv"
)
SUFFIXES = frozenset(RECORDINGS.split())
GLOB_CHARS = set("*?[")


@dataclass(frozen=True)
class Recording:
    """A recording, and the relative path of its results without suffix."""

    source: Source
    stem: str


@dataclass(frozen=True)
class Found:
    """A source, and the candidate names of its results: relative paths, the shortest first."""

    source: Source
    names: tuple[str, ...]


def recordings(
    words: list[str], lists: list[str], *, apart: bool
) -> tuple[list[Recording], list[tuple[str, str]]]:
    """The recordings named on the command line or in list files; and (name, problem) for what has failed.

    `apart`: drop duplicates, and give each recording a name of its own. Raises UsageError.
    """
    found: list[Found] = []
    failed: list[tuple[str, str]] = []
    named = [*words, *(name for path in lists for name in listed(path))]
    if (twice := [*named, *lists].count("-")) > 1:
        raise UsageError(f"standard input is named {twice} times; it can be read only once")
    for word in named:
        try:
            found += expanded(word)
        except InputError as error:
            failed.append((word, str(error)))
    return distinct(found) if apart else [Recording(each.source, each.names[0]) for each in found], failed


def listed(path: str) -> list[str]:
    """The names in a list file, one a line, or separated by null bytes as from find -print0.

    Raises UsageError.
    """
    try:
        content = Path("/dev/stdin" if path == "-" else path).read_bytes()
    except OSError as error:
        raise UsageError(f"--files_from {path}: {error.strerror}; check the name") from error
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(line) for line in lines if line]


def expanded(word: str) -> Iterable[Found]:
    """The recordings that one argument names. Raises InputError and UsageError."""
    if word == "-":
        return [Found(Stdin(), ("stdin",))]
    if word.startswith(s3.SCHEME):
        return in_bucket(s3.location(word))
    if word.startswith(SCHEMES):
        page = Page(word)
        return [Found(page, names(page.stem + ".web", word))]
    path = Path(word)
    if path.is_dir():
        return in_folder(path)
    if GLOB_CHARS.intersection(word) and not os.path.lexists(word):
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  pathlib refuses absolute patterns
        if matches:  # without a match, treat it as the name of a missing file
            return [each for match in matches for each in expanded(match)]
    return [Found(File(path), names(path.name, str(path)))]


def in_folder(folder: Path) -> list[Found]:
    """The recordings in a folder and its subfolders, by suffix. Raises InputError."""
    paths = []
    for here, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(here, name) for name in sorted(files) if not name.startswith(".")]
    taken = known(str(folder), [str(path) for path in paths])
    prefix = folder.absolute().name
    return [
        Found(File(Path(path)), names(os.path.relpath(path, folder), os.path.relpath(path, folder), prefix))
        for path in taken
    ]


def unreadable(error: OSError) -> None:
    """The onerror of os.walk, which would otherwise skip unreadable folders."""
    raise InputError(f"cannot be read: {error.filename}: {error.strerror}; check its permissions")


def in_bucket(where: s3.Location) -> list[Found]:
    """The objects that a location names: one, all below a prefix, or all that match a pattern."""
    pattern = GLOB_CHARS.intersection(where.key)
    if where.key and not where.key.endswith("/") and not pattern:
        return [Found(Object(where), names(PurePosixPath(where.key).name, where.key, where.bucket))]
    start = min((where.key.index(sign) for sign in pattern), default=len(where.key))
    prefix = s3.Location(where.bucket, where.key[:start])
    found = {
        each.key: each
        for each in s3.listed(prefix)
        if not each.key.endswith("/") and (not pattern or fnmatchcase(each.key, where.key))
    }
    if not found:
        raise InputError("no object matches; check bucket and prefix")
    cut = prefix.key.rfind("/") + 1
    return [
        Found(
            Object(s3.Location(where.bucket, key), found[key].etag),
            names(key[cut:], key, where.bucket),
        )
        for key in known(str(where), list(found))
    ]


def known(where: str, paths: list[str]) -> list[str]:
    """The paths with a recording's suffix; warns about the others. Raises InputError if there are none."""
    taken = [path for path in paths if suffix(path)[1:].lower() in SUFFIXES]
    left = Counter(suffix(path) or "none" for path in paths if path not in set(taken))
    kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(left.items()))
    if not taken:
        of = f"; other suffixes: {kinds}" if left else ""
        raise InputError(f"has no recordings{of}; give the files by name")
    if left:
        warn(f"{where}: skipped files that are not recordings, by suffix: {kinds}")
    return taken


def suffix(path: str) -> str:
    """The suffix of a path, with its dot."""
    return PurePosixPath(path).suffix


def names(short: str, long: str, parent: str = "") -> tuple[str, ...]:
    """Candidate names for results, the shortest first; the last ones keep the recording's suffix."""
    whole = inside(f"{parent}/{long}")
    without = [inside(short), inside(long), whole]
    return (*(str(PurePosixPath(name).with_suffix("")) for name in without), inside(long), whole)


def inside(path: str) -> str:
    """Make a path relative and safe: it cannot leave the folder that it is appended to."""
    parts = [part for part in path.replace("\0", "_").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "_"


def distinct(found: list[Found]) -> list[Recording]:
    """Drop duplicates, and choose a unique name for each. Raises UsageError if that is impossible."""
    left = list({each.source.name: each for each in found}.values())
    chosen = {each.source.name: each.names[0] for each in left}
    for level in range(1, max((len(each.names) for each in left), default=0)):
        count = Counter(chosen.values())
        for each in left:
            if count[chosen[each.source.name]] > 1:
                chosen[each.source.name] = each.names[level]
    name, count_of_most = Counter(chosen.values()).most_common(1)[0] if chosen else ("", 0)
    if count_of_most > 1:
        raise UsageError(f"{count_of_most} recordings would be written to {name}.*; give each its own -o")
    return [Recording(each.source, chosen[each.source.name]) for each in left]


def buckets(words: Iterable[str]) -> Iterator[s3.Location]:
    """One location for each bucket among the arguments."""
    seen = set()
    for word in words:
        if word.startswith(s3.SCHEME) and (where := s3.location(word)).bucket not in seen:
            seen.add(where.bucket)
            yield where
