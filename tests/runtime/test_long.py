"""Recordings of hours need little more memory than their samples."""

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

PROGRAM = 1.3e9  # bytes that torch, the model and a batch take: with the samples of ten hours 3.6 GB

# How much a process grows while it decodes a recording, relative to the size of the samples.
DECODE = """
import resource, sys
from pathlib import Path
from preheat.audio import audiofile
def most(): return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = most()
samples = audiofile.decode(Path(sys.argv[1])).samples
print((most() - before) / samples.nbytes)
"""


def meeting(path: Path, hours: int, samples: Path) -> Path:
    """A recording with speech at its beginning and end, and silence in between."""
    speech = audiofile.decode(samples / "short.flac").samples
    silence = np.zeros(60 * SAMPLE_RATE, np.float32)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        file.write(speech)
        for _ in range(hours * 60):
            file.write(silence)
        file.write(speech)
    return path


@pytest.mark.parametrize("name", ["meeting.flac", "meeting.ogg"])  # read by libsndfile, and by FFmpeg
def test_samples_are_there_once(name: str, samples: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DECODE, str(meeting(tmp_path / name, 1, samples))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=RUNTIME)
    assert float(done.stdout) < 1.3


# Address space of 3 GiB, in which the samples of twenty hours have no room.
LIMITED = """
import resource, sys
from pathlib import Path
from preheat.audio import audiofile
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
found = audiofile.decode(Path(sys.argv[1]))
print(len(found.samples), found.incomplete)
"""


def test_a_header_that_claims_twenty_hours(samples: Path, tmp_path: Path) -> None:
    """It costs nothing, and what is there is decoded."""
    content = bytearray((samples / "short.flac").read_bytes())
    # The total is the last 36 bits of these five bytes of STREAMINFO.
    total = int.from_bytes(content[21:26], "big") >> 36 << 36 | 20 * 3600 * SAMPLE_RATE
    content[21:26] = total.to_bytes(5, "big")
    (tmp_path / "forged.flac").write_bytes(content)
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "forged.flac")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=RUNTIME)
    count, _, incomplete = done.stdout.partition(" ")
    assert int(count) == len(audiofile.decode(samples / "short.flac").samples)
    assert incomplete.startswith("is cut short or damaged: only 8.0 s of 72000.0 s can be read")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["meeting.flac", "meeting.ogg"])
def test_ten_hours_take_less_than_4_gb(name: str, home: Path, samples: Path, tmp_path: Path) -> None:
    path = meeting(tmp_path / name, 10, samples)
    process = subprocess.Popen(
        [sys.executable, RUNTIME / "transcribe.py", "--home", home, "--quiet", path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    said, problems = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, problems) == (0, "")
    assert said.split() == (samples / "short.txt").read_text().split() * 2
    assert usage.ru_maxrss * 1024 < PROGRAM + 10 * 3600 * SAMPLE_RATE * 4
