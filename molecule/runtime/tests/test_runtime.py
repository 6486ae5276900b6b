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
    installed = set(host.check_output(f"ls {RUNTIME}").split()) - {"__pycache__"}
    assert installed == {path.name for path in SOURCE.glob("*.py")} | {"VERSION"}


def test_every_module_is_compiled(host: Host) -> None:
    compiled = host.check_output(f"ls {RUNTIME}/__pycache__").split()
    assert {name.split(".")[0] for name in compiled} == {path.stem for path in SOURCE.glob("*.py")}


def test_only_root_can_change_it(host: Host) -> None:
    assert host.check_output(f"find {RUNTIME} /usr/local/bin/transcribe -not -user root -o -perm /022") == ""
