"""Run by the venv's Python: write a file with the licences of all its packages, and their texts.

    python -B - FILE LIBRARIES    LIBRARIES: __venv_libraries, as JSON

Prints `changed` if the contents of FILE have changed. If a package contains a library that LIBRARIES does not
list, exits with its name.
"""

import ctypes
import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import Distribution, distributions
from pathlib import Path
from textwrap import wrap
from typing import Any

HEAD = """\
Third-party software in {venv}, and the licences under which it may be redistributed.

For each package: the licence it declares, then its licence texts; a text that was already printed is only
referred to. If a licence, such as the GPL or LGPL, requires that the source is offered with the program, whoever
redistributes this image must do so: the source of each Python package is the source distribution of the same
version at the Python Package Index; the sources of libraries inside it are listed with it. Debian's packages have
their licences in /usr/share/doc/*/copyright.
"""
RULE = "#" * 110  # separates the parts; it occurs in no licence text
COMMON = Path("/usr/share/common-licenses")  # Debian's texts, for packages that have none
TEXTS = re.compile(r"licen[cs]e|copying|copyright|notice|eula", re.IGNORECASE)
NO_TEXTS = {".py", ".pyc", ".h", ".hpp", ".json"}
HOME = re.compile(r"home ?page|repository|source|github|download", re.IGNORECASE)


def normal(name: str) -> str:
    """A package's name, normalised by PEP 503 as in the lock."""
    return re.sub(r"[-_.]+", "-", name).lower()


def about(package: Distribution) -> Iterator[str]:
    """The lines with the licence that a package declares."""
    declared, metadata = package.metadata, package.metadata.json
    lines = [str(metadata[key]) for key in ("license_expression", "license") if metadata.get(key)]
    lines += [
        name.split(" :: ")[-1] for name in declared.get_all("Classifier", []) if name.startswith("License")
    ]
    yield f"Licence: {lines[0].splitlines()[0] if lines else 'none declared; see its home page'}"
    links = [link.partition(", ") for link in declared.get_all("Project-URL", [])]
    homes = [metadata["home_page"]] if metadata.get("home_page") else []
    for page in dict.fromkeys([*homes, *(url for label, _, url in links if HOME.search(label))]):
        yield f"Home or source: {page}"


def texts(package: Distribution) -> Iterator[tuple[str, str]]:
    """Name and contents of each licence text in a package."""
    for file in sorted(package.files or []):
        declared = ".dist-info/licenses/" in str(file)
        if file.suffix not in NO_TEXTS and (declared or TEXTS.search(file.name)):
            yield str(file), Path(str(file.locate())).read_text(errors="replace")


def crates(package: Distribution) -> Iterator[str]:
    """The lines on components compiled into a package, if it has an SBOM with licences."""
    for file in package.files or []:
        if ".dist-info/sboms/" in str(file):
            for part in json.loads(file.read_text()).get("components", []):
                for licence in part.get("licenses", []):
                    name = licence.get("expression") or licence["license"].get("id", "see its source")
                    yield f"  {part['name']} {part['version']}: {name}"


def common(licence: str) -> Iterator[tuple[str, str]]:
    """Name and contents of Debian's texts for the licences that a string names."""
    names = [f"{kind}GPL-{number}" for kind, number in re.findall(r"(L?)GPL-(\d(?:\.[1-9])?)", licence)]
    for name in dict.fromkeys([*names, *(["Apache-2.0"] if "Apache" in licence else [])]):
        yield name, (COMMON / name).read_text()


def libraries(folder: Path, known: dict[str, Any]) -> Iterator[str]:
    """The lines on the shared libraries that auditwheel put into a package; all of them must be known."""
    files = sorted(file.name for file in folder.iterdir())
    for library in known["libraries"]:
        found = [name for name in files if any(fnmatch(name, pattern) for pattern in library["files"])]
        if found:
            yield f"  {library['of']}: {library['licence']}"
            yield f"    source: {library['source']}"
            yield f"    in {', '.join(found)}"
        files = [name for name in files if name not in found]
    if files:
        sys.exit(
            f"{folder} has {', '.join(files)}, whose licences are not listed: add them to __venv_libraries"
        )


def ffmpeg(folder: Path) -> Iterator[str]:
    """The lines with the version, licence and configuration that FFmpeg reports."""
    for file in folder.glob("libavutil*"):
        library = ctypes.CDLL(str(file))
        said = {}
        for name in ("av_version_info", "avutil_license", "avutil_configuration"):
            function = getattr(library, name)
            function.restype = ctypes.c_char_p
            said[name] = function().decode()
        yield f"FFmpeg {said['av_version_info']}; its licence, as it reports it: {said['avutil_license']}"
        yield f"Configured with: {said['avutil_configuration']}"


def section(package: Distribution, known: dict[str, Any], seen: dict[str, str]) -> Iterator[str]:
    """The lines on a package; `seen` maps each text to where it was first printed."""
    name = normal(package.metadata["Name"])
    yield from (RULE, f"{name} {package.version}", RULE, "")
    said = list(about(package))
    yield from said
    found = list(texts(package))
    if name in known:
        folder = Path(str(package.locate_file(f"{package.metadata['Name']}.libs")))
        listed = list(libraries(folder, known[name]))
        yield from ("", *wrap(known[name]["note"], 110), "", *ffmpeg(folder), "", "Libraries in it:", *listed)
        found += common(known[name]["note"] + " ".join(listed))
    elif not found:
        found += common(said[0])
    if compiled := list(crates(package)):
        yield from ("", "Compiled into it:", *compiled)
    for path, text in found:
        where = seen.setdefault(text, f"{path} of {name}")
        yield from (
            "",
            f"--- {path}",
            "",
            text.rstrip() if where == f"{path} of {name}" else f"the same as {where}",
        )
    yield ""


def main() -> None:
    """Write the file."""
    target, known = Path(sys.argv[1]), json.loads(sys.argv[2])
    seen: dict[str, str] = {}
    lines = [HEAD.format(venv=sys.prefix)]
    for package in sorted(distributions(), key=lambda found: normal(found.metadata["Name"])):
        lines += section(package, known, seen)
    content = "\n".join(lines)
    if not target.exists() or target.read_text() != content:
        incoming = target.with_suffix(".incoming")
        incoming.write_text(content)
        incoming.chmod(0o644)
        incoming.replace(target)
        print("changed")


main()
