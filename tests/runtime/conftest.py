"""What the tests of runtime/ share: the fixture model, a home with a state file, the command."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from preheat import cli
from tests.runtime import homes
from tests.runtime.console import Done, Run
from tests.runtime.homes import ROOT, RUNTIME

settings.register_profile("shared machine", deadline=None)  # which may pause a test for a second
settings.load_profile("shared machine")
os.environ.pop("PYTHONUNBUFFERED", None)  # unusual, and hides errors at the last flush
os.environ["OMP_NUM_THREADS"] = "1"  # torch's threads only get in each other's way on a model this small


@pytest.fixture(scope="session")
def checkpoint_folder() -> Path:
    """The fixture model, in transformers' layout."""
    return homes.FIXTURE


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of short, long and noise: .flac and .txt."""
    return ROOT / "tests/fixtures/samples"


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as on the image: the checkpoint and its state file. Not to be changed; see `home`."""
    return homes.with_fixture(tmp_path_factory.mktemp("baked"))


@pytest.fixture(scope="session")
def base() -> Path:
    """A home of OpenAI's base, which knows 99 languages. Not to be changed."""
    return homes.real("whisper-base")


@pytest.fixture(scope="session")
def tiny_en() -> Path:
    """A home of OpenAI's tiny.en, which knows English alone. Not to be changed."""
    return homes.real("whisper-tiny.en")


@pytest.fixture
def home(baked: Path, tmp_path: Path) -> Path:
    """A home of the test's own, to damage."""
    return Path(shutil.copytree(baked, tmp_path / "home"))


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A second of nothing."""
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    return tmp_path / "silence.wav"


def defaults(home: Path | None, arguments: tuple[str | Path, ...]) -> list[str]:
    """Default options: the home, and the CPU even on a machine with a GPU."""
    wanted = {"--home": str(home), "--device": "cpu"}
    return [word for name, value in wanted.items() if name not in arguments for word in (name, value)]


def command(home: Path, *arguments: str | Path) -> list[str | Path]:
    """transcribe.py as a process of its own."""
    return [sys.executable, RUNTIME / "transcribe.py", *defaults(home, arguments), *arguments]


@pytest.fixture
def run(baked: Path) -> Run:
    """Run transcribe.py in a process of its own, on the baked home unless the arguments name another."""

    def run(*arguments: str | Path, **settings: Any) -> Done:
        settings = {"capture_output": True, "text": True, "timeout": 120} | settings
        return subprocess.run(command(baked, *arguments), check=False, **settings)

    return run


@pytest.fixture
def main(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Run:
    """Like `run`, but in this process, which has torch imported already."""

    def main(*arguments: str | Path) -> Done:
        import torch  # noqa: F401, PLC0415  all of it, which loading.import_torch would not

        home = None if "--home" in arguments else request.getfixturevalue("baked")
        capfd.readouterr()
        try:
            code = cli.transcribe([*defaults(home, arguments), *map(str, arguments)])
        except SystemExit as leaving:  # argparse's way
            code = int(leaving.code or 0)
        finally:
            gc.enable()  # the command leaves it disabled if it fails early
        return Done(arguments, code, *capfd.readouterr())

    return main
