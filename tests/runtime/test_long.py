"""Recordings of hours: done in the memory that their samples take, and not much more."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from preheat.audio import audiofile
from preheat.audio.constants import SAMPLE_RATE
from preheat.storage import RUNTIME

PROGRAM = 1.6e9  # bytes that torch, the model and a batch take: with ten hours' samples, 4 GB in all


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.slow)])
def hours(request: pytest.FixtureRequest) -> int:
    """How long it is."""
    found: int = request.param
    return found


@pytest.mark.parametrize("form", ["flac", "ogg"])  # read by libsndfile, and by FFmpeg
def test_memory(form: str, hours: int, home: Path, samples: Path, tmp_path: Path) -> None:
    """Somebody speaks at the begin and at the end, and nobody in between."""
    speech = audiofile.decode(samples / "short.flac").samples
    silence = np.zeros(60 * SAMPLE_RATE, np.float32)
    path = tmp_path / f"meeting.{form}"
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        file.write(speech)
        for _ in range(hours * 60):
            file.write(silence)
        file.write(speech)
    process = subprocess.Popen(
        [sys.executable, RUNTIME / "transcribe.py", "--home", home, "--quiet", path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    said, problems = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, problems) == (0, "")
    words = (samples / "short.txt").read_text().split()
    assert said.split() == words * 2
    assert usage.ru_maxrss * 1024 < PROGRAM + hours * 3600 * SAMPLE_RATE * 4
