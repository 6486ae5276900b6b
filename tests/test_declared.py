"""Every imported package is declared: in a group of pyproject.toml, or as a Debian package in setup.sh."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from factory.console import ROOT

OURS = {"bench", "deploy", "factory", "preheat", "tests"}
FOLDERS = ("ansible", "bench", "deploy", "factory", "molecule", "runtime", "tests")
OF_DEBIAN = {"pyfuse3": "python3-pyfuse3", "trio": "python3-pyfuse3"}  # trio comes with it


def imported() -> Iterator[tuple[str, str]]:
    """Each module of a package that is imported somewhere, and where."""
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (name.partition(".")[0] for name in names):
                siblings = {sibling.stem for sibling in path.parent.glob("*.py")}
                if name not in sys.stdlib_module_names | OURS | siblings:
                    yield name, str(path.relative_to(ROOT))


def test_every_package_that_is_imported_is_declared() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    entries = [entry for group in groups.values() for entry in group if isinstance(entry, str)]
    declared = {plain(re.split(r"[\[=<>]", entry)[0]) for entry in entries}
    packages, of_system = packages_distributions(), (ROOT / "factory/setup.sh").read_text()
    undeclared = {
        (name, where)
        for name, where in imported()
        if declared.isdisjoint(map(plain, packages.get(name, ())))
        and OF_DEBIAN.get(name, "no such package") not in of_system
    }
    assert undeclared == set()


def plain(name: str) -> str:
    """A distribution's normalised name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
