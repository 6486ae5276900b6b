"""Every role: its argument specification matches its defaults, and its files follow the conventions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ANSIBLE = Path(__file__).parents[2] / "ansible"
ROLES = sorted((ANSIBLE / "roles").iterdir())
TASK_FILES = sorted(path for role in ROLES for path in role.glob("tasks/*.yml"))


def defaults(role: Path) -> dict[str, Any]:
    """A role's inputs and their defaults."""
    return yaml.safe_load((role / "defaults/main.yml").read_text()) or {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    """A role's inputs by its argument specification."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    assert list(specs) == ["main"]
    described: dict[str, dict[str, Any]] = specs["main"]["options"]
    return described


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_specification_and_defaults_agree(role: Path) -> None:
    assert {name: option["default"] for name, option in options(role).items()} == defaults(role)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_input_is_typed_described_and_prefixed(role: Path) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role.name}_")
        assert option["type"]
        assert option["description"].endswith(".")


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_internal_variables_are_marked(role: Path) -> None:
    for path in role.glob("vars/*.yml"):
        for name in yaml.safe_load(path.read_text()):
            assert name.startswith(f"__{role.name}_")


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_role_verifies_what_it_did(role: Path) -> None:
    assert (role / "tasks/verify.yml").is_file()
    assert "import_tasks: verify.yml" in (role / "tasks/main.yml").read_text()


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_task_files_are_short_and_their_names_say_where_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= (30 if path.name == "main.yml" else 80)
    if path.name != "main.yml":
        for task in named(yaml.safe_load(text)):
            assert task["name"].startswith(f"{path.stem} | "), task["name"]


def test_every_role_of_the_image_can_be_replayed_by_its_name() -> None:
    play = yaml.safe_load((ANSIBLE / "image.yml").read_text())[0]
    assert all(role["tags"] == role["role"] for role in play["roles"])
    assert {role["role"] for role in play["roles"]} == {role.name for role in ROLES}
    for task in [*play["pre_tasks"], *play.get("post_tasks", [])]:
        assert task["tags"] in ("always", *(role.name for role in ROLES)), task["name"]


def named(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of a file, those within blocks too."""
    inside = [task for outer in tasks for key in ("block", "rescue", "always") for task in outer.get(key, [])]
    return tasks + (named(inside) if inside else [])
