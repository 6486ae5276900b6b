"""How Packer's output and exit are handled; stand-ins print what Packer 1.6 and 1.16 print."""

import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from factory import packer, spot
from factory.console import LOGS, ROOT, FactoryError
from factory.progress import Progress

OLD = """\
amazon-ebs.ami: output will be in this color.

==> amazon-ebs.ami: Prevalidating AMI Name: preheat-0.1.0
    amazon-ebs.ami: Found Image ID: ami-0deb1a00000000012
==> amazon-ebs.ami: Launching a source AWS instance...
    amazon-ebs.ami: Adding tag: "preheat:run": "preheat-1"
==> amazon-ebs.ami: Provisioning with Ansible...
    amazon-ebs.ami:
    amazon-ebs.ami: PLAY [Make a transcription image] ***************
    amazon-ebs.ami:
    amazon-ebs.ami: TASK [Gathering Facts] **************************
    amazon-ebs.ami: ok: [default]
    amazon-ebs.ami: RUNNING HANDLER [base : Restart the journal] ****
    amazon-ebs.ami: changed: [default]
==> amazon-ebs.ami: [WARNING]: something
    amazon-ebs.ami: PLAY RECAP **************************************
    amazon-ebs.ami: default : ok=2    changed=1    unreachable=0    failed=0
==> amazon-ebs.ami: Stopping the source instance...
Build 'amazon-ebs.ami' finished.
"""
NEW = "\n".join(
    f"==> {line.strip()}" if line.lstrip("=> ").startswith("amazon-ebs.ami") and "==>" not in line else line
    for line in OLD.splitlines()
)
SHOWN = [
    "Prevalidating AMI Name: preheat-0.1.0",
    "Launching a source AWS instance...",
    "Provisioning with Ansible...",
    "Gathering Facts",
    "base : Restart the journal",
    "Stopping the source instance...",
]


def shown(output: str) -> list[str]:
    """The lines that the user sees of Packer's output."""
    progress = Progress()
    return [text for text in map(progress.shown, output.splitlines()) if text]


def test_of_old_packer_tasks_are_told_and_its_own_steps() -> None:
    assert shown(OLD) == SHOWN


def test_of_current_packer_no_more_of_the_play_is_told() -> None:
    assert "==> amazon-ebs.ami: ok: [default]" in NEW
    more = ["output will be in this color.", "Found Image ID: ami-0deb1a00000000012"]
    shown_more = ['Adding tag: "preheat:run": "preheat-1"']
    assert [text for text in shown(NEW) if text not in more + shown_more] == SHOWN


def test_of_the_local_machine_the_tasks_alone_are_told() -> None:
    assert shown(NEW.replace("amazon-ebs.ami", "null.local")) == [
        "Gathering Facts",
        "base : Restart the journal",
    ]


def test_after_a_play_that_broke_off_the_end_is_told() -> None:
    broken = NEW.partition("==> amazon-ebs.ami: PLAY RECAP")[0]
    broken += "==> amazon-ebs.ami: Provisioning step had errors: Running the cleanup provisioner\n"
    broken += "==> amazon-ebs.ami: Terminating the source AWS instance..."
    assert shown(broken)[-2:] == [
        "Provisioning step had errors: Running the cleanup provisioner",
        "Terminating the source AWS instance...",
    ]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a build's output goes."""
    return tmp_path / "build.log"


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str) -> None:
    """A Packer whose `build` is this shell script."""
    program = tmp_path / "packer"
    program.write_text(
        f'#!/bin/bash\ncase $1 in\nversion) echo "Packer v1.16.0" ;;\nbuild)\n{build}\n;;\nesac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PACKER", str(program))


FLEET = 'echo "==> amazon-ebs.ami: Created Spot Fleet launch template: lt-0123"'
CRASHED = 'echo "panic: runtime error: invalid memory address" >&2; echo "!!! PACKER CRASH !!!"; exit 1'


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (f"{FLEET}; {CRASHED}", "if EC2 refuses a fleet .* CreateFleet in CloudTrail. .* spot = false"),
        (CRASHED, "Packer has crashed:.*Try another version"),
        ("echo no; exit 1", "the build failed .packer's exit code 1."),
    ],
)
def test_a_crash_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path, script: str, says: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(FactoryError, match=f"(?s){says}"):
        packer.build("amazon-ebs.ami", {}, log)


@pytest.mark.parametrize("quote", ['"', '\\"', ""])
def test_an_ansible_that_does_not_start_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path, quote: str
) -> None:
    command = f"{quote}ansible-playbook --version{quote}"
    stand_in(tmp_path, monkeypatch, f"echo 'null.local: Error running {command}: exit status 1'; exit 1")
    monkeypatch.setattr(packer, "ROOT", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program = tmp_path / ".venv/bin/ansible-playbook"
    program.write_text("#!/bin/sh\necho 'No module named ansible' >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(FactoryError, match=r"does not start:\n  \| No module named ansible\n.* rm -r \.venv"):
        packer.build("null.local", {}, log)


def test_a_fleet_is_not_waited_for_longer_than_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    monkeypatch.setattr(spot, "FLEET_SECONDS", 0.2)
    stand_in(tmp_path, monkeypatch, f"trap 'echo removed; exit 1' INT; {FLEET}; while :; do sleep 0.1; done")
    with pytest.raises(packer.NoCapacityError):
        packer.build("amazon-ebs.ami", {}, log)
    assert "removed" in log.read_text()


def test_a_fleet_that_has_an_instance_is_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    monkeypatch.setattr(spot, "FLEET_SECONDS", 1)
    stand_in(tmp_path, monkeypatch, f"{FLEET}; echo '==> amazon-ebs.ami: Waiting for instance'; sleep 3")
    packer.build("amazon-ebs.ami", {}, log)


def test_what_a_crash_writes_lies_with_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    stand_in(tmp_path, monkeypatch, "touch written-by-packer; exit 0")
    packer.build("amazon-ebs.ami", {}, log)
    assert not (ROOT / "written-by-packer").exists()
    (LOGS / "written-by-packer").unlink()


def test_lint_takes_the_chosen_packer(tmp_path: Path) -> None:
    """With stand-ins for all the linters."""
    for tool in ("ruff", "mypy", "shellcheck", "yamllint", "ansible-lint", "cfn-lint", "packer"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    chosen = tmp_path / "chosen"
    chosen.write_text(f"#!/bin/sh\necho $* >{tmp_path}/asked\n")
    chosen.chmod(0o755)
    subprocess.run(
        [ROOT / "tests/lint.sh"], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PACKER": str(chosen)}
    )
    assert (tmp_path / "asked").read_text() == "fmt -check -diff packer\n"


@pytest.mark.parametrize(
    ("number", "usable"),
    [
        ("1.6.5", False),
        ("1.6.6", True),
        ("1.7.0", False),
        ("1.14.0", False),
        ("1.14.1", True),
        ("1.16.0", True),
    ],
)
def test_packers_that_cannot_fetch_plugins_are_refused_for_any_image(
    number: str, usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's version has the plugins built in; the next ones look for them at an address that is gone."""
    program = tmp_path / "packer"
    program.write_text(f"#!/bin/sh\necho Packer v{number}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PACKER", str(program))
    with nullcontext() if usable else pytest.raises(FactoryError, match=f"is Packer {number}, but preheat"):
        assert packer.packer() == program


def test_a_host_without_packer_is_told_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKER", "/nowhere/packer")
    with pytest.raises(FactoryError, match=r"/nowhere/packer is not installed\n.*HashiCorp's apt repository"):
        packer.packer()
