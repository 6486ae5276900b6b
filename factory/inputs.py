"""What an image is made from: this tree, and the file of variables that says what to bake."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from factory import hub
from factory.console import ROOT, say
from factory.model import model_file, read_variables
from factory.pin import LAYOUT, PINS, WEIGHTS

VERSION = (ROOT / "runtime/VERSION").read_text().strip()

# An image that was made from the same content of these is not built again.
INPUTS = (
    *("ansible/**/*", "packer/*.pkr.hcl", "runtime/**/*"),
    *("factory/local/basedisk.py", "factory/local/image.py"),
    *("tests/fixtures/samples/**/*", "tests/fixtures/whisper-nato/**/*"),
)


def variables(facts: Mapping[str, object], facts_file: Path) -> dict[str, str | int]:
    """Packer's variables for any image; writes the facts, which are variables for Ansible, to their file."""
    facts_file.parent.mkdir(parents=True, exist_ok=True)
    mirror = {"model_hub": hub.MIRROR} if hub.MIRROR else {}
    facts_file.write_text(json.dumps({**facts, **mirror, "image_git_commit": git_commit()}, indent=2))
    return {
        "version": VERSION,
        "git_commit": git_commit(),
        "facts_file": str(facts_file),
        "vars_file": str(model_file()),
    }


def git_commit() -> str:
    """The commit checked out, with `-dirty` when files differ from it; `unknown` outside a checkout."""
    # In a container the checkout often belongs to another user; git would refuse to read it.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    done = subprocess.run(
        [*git, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
        # If this is an unpacked tarball inside another repository, ignore that one.
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return done.stdout.strip()
    if (ROOT / ".git").exists():
        say(f"the commit is recorded as unknown; git failed: {done.stderr.strip()}")
    return "unknown"


def fingerprint() -> str:
    """A digest of INPUTS, of the model's file of variables, and of the files that it names."""
    digest, model = hashlib.sha256(), model_file()
    files = [path for pattern in INPUTS for path in ROOT.glob(pattern) if path.parent != PINS]
    for path in sorted([*files, model, *named_files(model)]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(os.path.relpath(path, ROOT).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def named_files(model: Path) -> list[Path]:
    """The files of this host that a file of variables names: the checkpoint's and the sample.

    The weights are left out: they are gigabytes, and model_sha256 stands for them. A path that is a template
    of Ansible's leads into this tree, which is among the inputs already.
    """
    values = read_variables(model)
    folder, sample = (Path(str(values.get(name, ""))) for name in ("model_source", "bake_sample"))
    patterns = [pattern for pattern in LAYOUT["__model_patterns"] if pattern != WEIGHTS]
    files = [path for pattern in patterns for path in folder.glob(pattern)]
    return [path for path in [*files, sample] if path.is_absolute()]
