"""Which modules the modules of a folder import, for the tests of who may import whom."""

import ast
from functools import cached_property
from pathlib import Path


class Imports:
    """The imports of the modules below a folder, by their full names."""

    def __init__(self, folder: Path, root: Path) -> None:
        """`root`: the folder that the names count from."""
        self.modules = {
            ".".join(path.relative_to(root).with_suffix("").parts): path
            for path in sorted(folder.rglob("*.py"))
            if path.name != "__init__.py"
        }

    @cached_property
    def all(self) -> dict[str, frozenset[str]]:
        """All that each module imports, at its top, in a function or for mypy alone."""
        return {module: frozenset(self._imported(path)) for module, path in self.modules.items()}

    def _imported(self, path: Path) -> set[str]:
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "whole names, as whoever searches for them writes them"
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in self.modules else str(node.module) for name in names}
            else:  # a computed name could not be checked
                name = getattr(node, "id", None) or getattr(node, "attr", None)
                assert name not in ("__import__", "import_module")
        return found

    def reached(self, module: str) -> set[str]:
        """The modules that it imports, and those that these import, and so on."""
        found, left = set[str](), set(self.all[module])
        while left:
            name = left.pop()
            if name in self.modules and name not in found:
                found.add(name)
                left |= self.all[name]
        return found
