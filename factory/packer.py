"""Packer: which program to use, a template that it can read, and a build that reports its progress."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from factory import hub
from factory.console import BUILD, LOGS, ROOT, FactoryError, first_line, say, tail
from factory.progress import Progress
from factory.spot import CRASH, Patience, crashed
from factory.workspace import secrets

TEMPLATE = ROOT / "packer"
PROJECT = ROOT  # the tree whose play is run
OLDEST = (1, 6, 6)  # Debian 12's
PLUGIN_BLOCKS_SINCE = (1, 7)
PLUGINS_SINCE = (1, 14, 1)  # as plugins.pkr.hcl requires; older ones look for plugins in a place that is gone
CURRENT = (
    "Install a current one from HashiCorp's apt repository (developer.hashicorp.com/packer/install), and set"
    " PACKER=path if it is not the one on PATH"
)

# What a Packer older than 1.7 cannot read: the versions of plugins, which were built in then, and newer
# settings of amazon-ebs. Such a Packer still builds the local image and runs the tests of the AMI.
MODERN_FILES = ("plugins.pkr.hcl",)
MODERN_SETTINGS = ("imds_support", "include_deprecated", "metadata_options")

# EC2's errors when a zone has no capacity for an instance type: error codes for on-demand instances, and
# messages for spot instances, where Packer does not print the code.
NO_CAPACITY = re.compile(
    r"InsufficientInstanceCapacity|InsufficientHostCapacity|UnfulfillableCapacity"
    r"|no Spot capacity available|do not have sufficient \S+ capacity|Unable to fulfill capacity"
)
# The Ansible provisioner's error, in all its versions, if it cannot determine the version of Ansible.
NO_ANSIBLE = re.compile(r"Error running \W*ansible-playbook")


class NoCapacityError(FactoryError):
    """EC2 has no capacity for this type in this zone at the moment; another type or zone may have some."""


def packer() -> Path:
    """The Packer to use: $PACKER, else the one on PATH; FactoryError if there is none or it is too old."""
    wanted = os.environ.get("PACKER") or "packer"
    found = shutil.which(wanted)
    if not found:
        raise FactoryError(f"{wanted} is not installed", CURRENT)
    known = version(Path(found))
    if known < OLDEST or PLUGIN_BLOCKS_SINCE <= known < PLUGINS_SINCE:
        wanted = f"{dotted(OLDEST)} (Debian's), or {dotted(PLUGINS_SINCE)} or newer"
        raise FactoryError(f"{found} is Packer {dotted(known)}, but preheat needs {wanted}", CURRENT)
    return Path(found).absolute()


def dotted(number: tuple[int, ...]) -> str:
    """A version as text, such as 1.6.6."""
    return ".".join(map(str, number))


def version(program: Path) -> tuple[int, ...]:
    """Packer's version as numbers, such as (1, 6, 6)."""
    printed = first_line([str(program), "version"])
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", printed)
    if not match:
        raise FactoryError(f"cannot read the version of {program}", "Set PACKER=path to HashiCorp's packer")
    return tuple(map(int, match.groups()))


def template(program: Path) -> Path:
    """The folder to build from: packer/, or for an old Packer a copy without what it cannot read."""
    if version(program) >= PLUGIN_BLOCKS_SINCE:
        return TEMPLATE
    staged = BUILD / "packer"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for path in TEMPLATE.glob("*.hcl"):
        if path.name not in MODERN_FILES:
            (staged / path.name).write_text(without_modern(path.read_text()))
    return staged


def without_modern(text: str) -> str:
    """A template without the lines and blocks of MODERN_SETTINGS; it must be indented as by `packer fmt`."""
    names = "|".join(MODERN_SETTINGS)
    setting = rf"^( +)(?:{names})\b(?: *=.*| \{{\n(?:\1  .*\n)*\1\}})\n"
    return re.sub(setting, "", text, flags=re.MULTILINE)


def validate(program: Path, source: str, var_file: Path | None) -> None:
    """Install the template's plugins and validate it with the user's values; FactoryError if that fails."""
    folder = template(program)
    if folder == TEMPLATE:
        checked(program, "init", folder)
    project = f"-var=project={PROJECT}"
    checked(program, "validate", f"-only={source}", project, *var_files(var_file), folder)


def checked(program: Path, *arguments: str | Path) -> None:
    """Run one of Packer's quick commands; FactoryError with what it printed if it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [program, *arguments], env=environment(), cwd=LOGS, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FactoryError(
            f"packer {arguments[0]} failed:\n{tail(done.stdout + done.stderr)}",
            "Fix what it reports: one of your values, or for init, access to HashiCorp's releases site, which"
            " has the plugins",
        )


def var_files(*paths: Path | None) -> list[str]:
    """Packer's options for files of values; later ones override earlier ones."""
    return [f"-var-file={path}" for path in paths if path]


def environment() -> dict[str, str]:
    """The environment that Packer runs in."""
    return {
        **os.environ,
        # Ansible comes from the project's own venv.
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "HF_TOKEN": hub.token(),  # the role `model` passes it to the download
    }


def build(source: str, variables: Mapping[str, str | int], log: Path, var_file: Path | None = None) -> None:
    """Run `packer build` for one source; task names go to the console, everything to the log.

    `variables` override the user's var_file. Raises FactoryError with the output of the failed task, or
    NoCapacityError if EC2 has no capacity. If this program is interrupted, Packer cleans up first.
    """
    program = packer()
    folder = template(program)
    values = BUILD / "run" / f"{source}.pkrvars.json"
    values.parent.mkdir(parents=True, exist_ok=True)
    values.write_text(json.dumps({**variables, "project": str(PROJECT)}, indent=2))
    if folder == TEMPLATE:
        checked(program, "init", folder)
    options = [f"-only={source}", *var_files(var_file, values)]
    say(f"packer {'.'.join(map(str, version(program)))}: {source}; log {log}")
    for folder_for_logs in (log.parent, LOGS):
        folder_for_logs.mkdir(parents=True, exist_ok=True)
    # TMPDIR: Packer leaves a file with the instance's private key there, and Ansible its sockets and files.
    # ANSIBLE_HOME: collections in the user's ~/.ansible would override those of the venv.
    with log.open("w") as sink, secrets() as scratch:
        process = subprocess.Popen(
            [program, "build", *options, folder],
            env=environment() | dict.fromkeys(("TMPDIR", "ANSIBLE_HOME"), str(scratch)),
            cwd=LOGS, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        progress, patience = Progress(), Patience(process)
        try:
            for line in process.stdout or ():
                patience.heard(line)
                sink.write(line)
                sink.flush()
                if text := progress.shown(line):
                    say(f"  {text}")
            failed = process.wait()
        except BaseException:
            stop(process, sink)
            raise
        finally:
            patience.heard("")
    if not failed:
        return
    text = log.read_text()
    if patience.lost or NO_CAPACITY.search(text):
        raise NoCapacityError("EC2 has no capacity for this instance there at the moment", "Try again later")
    if CRASH.search(text):
        raise crashed(text, log)
    if NO_ANSIBLE.search(text):
        raise no_ansible(log)
    raise FactoryError(
        f"the build failed (packer's exit code {failed}):\n{what_failed(text)}", f"The whole log is {log}"
    )


def no_ansible(log: Path) -> FactoryError:
    """The error for an ansible-playbook that does not start: its own message, which Packer does not print."""
    done = subprocess.run(
        ["env", "ansible-playbook", "--version"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return FactoryError(
        f"ansible-playbook does not start:\n{tail(done.stderr)}",
        f"If its venv is damaged: rm -r .venv, and run it again. The whole log is {log}",
    )


def stop(process: subprocess.Popen[str], sink: TextIO) -> None:
    """Interrupt Packer and wait until it has removed what it launched; a second interruption kills it.

    The signal goes to its process group, which includes Ansible and ssh. It is SIGINT, as by Ctrl-C, because
    SIGTERM would kill Packer's plugins before they have cleaned up.
    """
    say("stopping Packer, which removes what it has launched")
    try:
        os.killpg(process.pid, signal.SIGINT)
        sink.writelines(process.stdout or ())  # an unread pipe would fill up and block Packer
        process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def what_failed(log: str) -> str:
    """The part of a build's log from Ansible's first failure on; without one, the end of the log."""
    lines = log.splitlines()
    first = next((n for n, line in enumerate(lines) if re.search(r"fatal:|ERROR!|\[ERROR\]", line)), None)
    return tail(log) if first is None else tail("\n".join(lines[max(0, first - 1) : first + 25]), lines=30)
