"""Homes as on the image, to run transcribe.py on: the checkpoint in model/, baked in state/."""

import hashlib
import os
import shutil
import subprocess
import sys
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.make import pretrained

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
FIXTURE = ROOT / "tests/fixtures/whisper-nato"  # the model that the tests train, in transformers' layout


def real(name: str) -> Path:
    """A home with one of OpenAI's own models, from pretrained.SOURCES, with a float32 state file.

    It is kept for later sessions. If the model cannot be fetched, the test is skipped; in CI it fails.
    """
    try:
        checkpoint = pretrained.checkpoint(name)
    except pretrained.UnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    home = pretrained.MODELS / "homes" / name
    link, state, baked_from = home / "model" / name, home / f"state/{name}.safetensors", home / "baked-from"
    if not state.exists() or not baked_from.exists() or baked_from.read_text() != ingredients(checkpoint):
        for folder in (link.parent, state.parent):
            folder.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("../../..") / name)
        baked_from.unlink(missing_ok=True)  # written again only when the bake is complete
        bake(link, state)
        baked_from.write_text(ingredients(checkpoint))
    return home


def with_fixture(home: Path) -> Path:
    """Make a home of a folder, with the fixture model and its state file."""
    model, state = home / f"model/{FIXTURE.name}", home / f"state/{FIXTURE.name}.safetensors"
    shutil.copytree(FIXTURE, model)
    state.parent.mkdir()
    # float32 on every machine: with --dtype auto the words could differ between machines.
    bake = [sys.executable, str(RUNTIME / "state.py"), "bake", "--dtype", "float32"]
    bake += ["--model", str(model), "--output", str(state)]
    subprocess.run(bake, check=True, capture_output=True, timeout=600)
    return home


def bake(checkpoint: Path, output: Path) -> None:
    """Write a state file as `state.py bake` does, in this process: the tests need torch anyway."""
    from preheat.weights import state  # noqa: PLC0415  it imports torch, which not every session needs

    state.bake(checkpoint, output, "float32")


def ingredients(checkpoint: Path) -> str:
    """What a state file depends on, as a digest: the checkpoint, what bakes it, the versions in the lock."""
    # Only our own modules, as the lock covers the others; and not the transcriber, which baking does not use.
    finder = ModuleFinder(path=[str(RUNTIME)], excludes=["preheat.transcriber"])
    finder.run_script(str(RUNTIME / "state.py"))
    modules: list[Any] = list(finder.modules.values())  # modulefinder's own, which mypy takes for real ones
    files = [
        *sorted(module.__file__ for module in modules if module.__file__),
        checkpoint / "made-by",
        ROOT / "requirements.txt",
    ]
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
