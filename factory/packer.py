"""Packer: which one is used, the template it can read, and a build whose progress can be followed."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from factory.console import BUILD, ROOT, FactoryError, first_line, say, tail

TEMPLATE = ROOT / "packer"
OLDEST = (1, 6, 6)  # Debian 12's
PLUGIN_BLOCKS_SINCE = (1, 7)

# What a Packer older than 1.7 cannot read, in one place: the pins of plugins, which were then built in.
MODERN_ONLY = ("plugins.pkr.hcl",)


def packer() -> Path:
    """The Packer to use: $PACKER, else the one on PATH; FactoryError if there is none or it is too old."""
    wanted = os.environ.get("PACKER") or "packer"
    found = shutil.which(wanted)
    if not found:
        raise FactoryError(f"{wanted} is not installed", "Run: make setup")
    if version(Path(found)) < OLDEST:
        raise FactoryError(
            f"{found} is older than {'.'.join(map(str, OLDEST))}", "Remove it from PATH, or set PACKER=path"
        )
    return Path(found)


def version(program: Path) -> tuple[int, ...]:
    """Packer's version as numbers, such as (1, 6, 6)."""
    printed = first_line([str(program), "version"])
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", printed)
    if not match:
        raise FactoryError(f"{program} does not tell its version", "Set PACKER=path to HashiCorp's packer")
    return tuple(map(int, match.groups()))


def template(program: Path) -> Path:
    """The folder that this Packer builds from: packer/, or for an old one a copy less MODERN_ONLY."""
    if version(program) >= PLUGIN_BLOCKS_SINCE:
        return TEMPLATE
    staged = BUILD / "packer"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(TEMPLATE, staged, ignore=shutil.ignore_patterns(*MODERN_ONLY))
    return staged


def build(source: str, variables: Mapping[str, str | int], log: Path) -> None:
    """Run `packer build` for one source; task names go to the console, everything to the log.

    Raises FactoryError with the failed task's words, and kills Packer if this program is interrupted.
    """
    program = packer()
    folder = template(program)
    values = BUILD / "run" / f"{source}.pkrvars.json"
    values.parent.mkdir(parents=True, exist_ok=True)
    values.write_text(json.dumps({**variables, "project": str(ROOT)}, indent=2))
    env = {
        **os.environ,
        # Ansible comes from the project's own venv.
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
    }
    if folder == TEMPLATE:
        subprocess.run([program, "init", folder], env=env, check=True)
    command: list[str | Path] = [program, "build", f"-only={source}", f"-var-file={values}", folder]
    say(f"packer {'.'.join(map(str, version(program)))}: {source}; log {log}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as sink:
        process = subprocess.Popen(
            command, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            for line in process.stdout or ():
                sink.write(line)
                sink.flush()
                if task := re.search(r"(?:TASK|RUNNING HANDLER) \[(.+?)\]", line):
                    say(f"  {task[1]}")
            failed = process.wait()
        except BaseException:
            # The whole group: Packer has its own session here, with Ansible and its ssh in it.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if failed:
        raise FactoryError(
            f"the build failed (packer's exit code {failed}):\n{what_failed(log.read_text())}",
            f"The whole log is {log}",
        )


def what_failed(log: str) -> str:
    """The part of a build's log from Ansible's first failure on, else its end."""
    lines = log.splitlines()
    first = next((n for n, line in enumerate(lines) if re.search(r"fatal:|ERROR!|\[ERROR\]", line)), None)
    return tail(log) if first is None else tail("\n".join(lines[max(0, first - 1) : first + 25]), lines=30)
