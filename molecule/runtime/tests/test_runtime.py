"""The command after the role `runtime`."""

import os
from pathlib import Path

from testinfra.host import Host

SOURCE = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "runtime"
RUNTIME = "/opt/transcribe/runtime"


def test_the_command_answers_anyone(host: Host) -> None:
    version = (SOURCE / "VERSION").read_text().strip()
    answer = host.check_output("setpriv --reuid=nobody --clear-groups transcribe --version")
    assert answer == f"transcribe {version}"


def test_it_holds_the_modules_and_nothing_else(host: Host) -> None:
    modules = {path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")}
    folders = {folder for path in modules for folder in path.parents} - {Path()}
    found = host.check_output(f"cd {RUNTIME} && find * -not -path '*__pycache__*'").split()
    assert set(found) == {str(path) for path in modules | folders} | {"VERSION", "preheat/py.typed"}


def test_every_module_is_compiled_and_no_other(host: Host) -> None:
    compiled = host.check_output(f"cd {RUNTIME} && find * -name '*.pyc'").split()
    modules = {str(path.relative_to(SOURCE).with_suffix("")) for path in SOURCE.rglob("*.py")}
    assert {name.replace("__pycache__/", "").partition(".")[0] for name in compiled} == modules


def test_the_package_is_on_the_path_of_the_venv(host: Host) -> None:
    """The venv is the build host's, so the role finds the path there already."""
    code = "import preheat; print(preheat.__file__)"
    told = host.check_output(f"cd / && /opt/transcribe/venv/bin/python -c '{code}'")
    assert told == f"{RUNTIME}/preheat/__init__.py"


def test_only_root_can_change_it(host: Host) -> None:
    assert host.check_output(f"find {RUNTIME} /usr/local/bin/transcribe -not -user root -o -perm /022") == ""
