"""What an image is made from: this tree, and the variables file that says what to bake."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from factory.console import ROOT, FactoryError, say

VERSION = (ROOT / "runtime/VERSION").read_text().strip()
DEFAULT_VARS = "ansible/models/whisper-nato.yml"

MODEL_VARS = ROOT / "ansible/roles/model/vars/main.yml"
WEIGHTS = "model.safetensors"

# When none of it has changed, the image that is there is the image.
INPUTS = (
    *("ansible/**/*", "packer/*.pkr.hcl", "runtime/**/*"),
    *("factory/local/basedisk.py", "factory/local/image.py"),
    *("tests/fixtures/samples/**/*", "tests/fixtures/whisper-nato/**/*"),
)


def variables(facts: Mapping[str, object], facts_file: Path) -> dict[str, str | int]:
    """Packer's variables for any image; the facts, Ansible's variables, are written to their file."""
    facts_file.parent.mkdir(parents=True, exist_ok=True)
    facts_file.write_text(json.dumps({**facts, "image_git_commit": git_commit()}, indent=2))
    return {
        "version": VERSION,
        "git_commit": git_commit(),
        "facts_file": str(facts_file),
        "vars_file": str((ROOT / vars_file()).resolve()),
    }


def vars_file() -> str:
    """The Ansible variables file that says what to bake: $MODEL, else the small model of the tests."""
    chosen = os.environ.get("MODEL") or DEFAULT_VARS
    if not (ROOT / chosen).is_file():
        raise FactoryError(
            f"MODEL={chosen}: no such file", f"Name an Ansible variables file such as {DEFAULT_VARS}"
        )
    return chosen


def git_commit() -> str:
    """The commit checked out, with `-dirty` when files differ from it; `unknown` outside a checkout."""
    # A checkout in a container is often another user's, which git would refuse to look at.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    done = subprocess.run(
        [*git, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
        # Not of a repository that an unpacked tarball lies in.
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return done.stdout.strip()
    if (ROOT / ".git").exists():
        say(f"the commit is recorded as unknown, for git says: {done.stderr.strip()}")
    return "unknown"


def fingerprint() -> str:
    """A digest of every file that the image is made from, and of the variables file with what it names."""
    digest = hashlib.sha256()
    files = [path for pattern in INPUTS for path in ROOT.glob(pattern)]
    for path in sorted([*files, ROOT / vars_file(), *named_files()]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(os.path.relpath(path, ROOT).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def named_files() -> list[Path]:
    """The files of this host that the variables name: the checkpoint's and the sample.

    But not its weights, gigabytes that model_sha256 stands for. A path that only Ansible can tell is one into
    this tree, which is an input as a whole.
    """
    values = read_vars(vars_file())
    folder, sample = (Path(str(values.get(name, ""))) for name in ("model_source", "bake_sample"))
    patterns = yaml.safe_load(MODEL_VARS.read_text())["__model_patterns"]
    files = [path for pattern in patterns if pattern != WEIGHTS for path in folder.glob(pattern)]
    return [path for path in [*files, sample] if path.is_absolute()]


def read_vars(path: str) -> dict[str, Any]:
    """Ansible's variables in a file; FactoryError where it holds none."""
    try:
        values = yaml.safe_load((ROOT / path).read_text())
    except yaml.YAMLError as error:
        raise FactoryError(f"{path} is not YAML: {error}", f"Write it as {DEFAULT_VARS} is") from error
    if not isinstance(values, dict):
        raise FactoryError(f"{path} holds no variables", f"It has lines as {DEFAULT_VARS} has")
    return dict(values)
