"""Shared by both stages of this scenario: the list, and the findings of the role's check."""

import json
import os
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

ROLE = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "ansible/roles/hygiene"
ITEMS: list[dict[str, str]] = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__hygiene_items"]


@pytest.fixture(scope="module")
def findings(host: Host) -> list[str]:
    """The lines that the role's check prints on the machine."""
    check = (ROLE / "files/hygiene.py").read_text()
    lines: list[str] = host.run("python3 -c %s check / %s", check, json.dumps(ITEMS)).stdout.splitlines()
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `item` once for each item of the list."""
    if "item" in metafunc.fixturenames:
        metafunc.parametrize("item", ITEMS, ids=lambda item: item["path"])
