"""isolation.py: a decoder may hang, crash or use up all memory, and only that recording fails."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from preheat.audio import audiofile, isolation
from preheat.audio.constants import SAMPLE_RATE
from preheat.storage import InputError
from tests.runtime.homes import RUNTIME
from tests.runtime.soundfiles import RECORDINGS, WRITERS, chirp

LIMITED = """
import os, signal, sys, time
from preheat.audio import isolation
isolation.PATIENCE, isolation.PROCESSOR, isolation.LONGEST_WAIT = 1, 2, 3
def work():
    {work}
    return {{"incomplete": None}}
print(isolation.limited(work))
"""


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        ("pass", "{'incomplete': None}"),
        ("while True: pass", "decoding it makes no progress"),
        ("time.sleep(60)", "decoding it makes no progress"),
        (
            "while True: isolation.alive()",
            "decoding it makes no progress",
        ),  # reports progress, but never ends
        ("os.kill(os.getpid(), signal.SIGKILL)", "its decoder was killed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it crashes the decoder (signal 11)"),
        ("os.abort()", "it crashes the decoder (signal 6)"),
        ("os._exit(3)", "it crashes the decoder (exit code 3)"),
        ("bytearray(3 << 30)", "cannot be decoded in 2 GiB of memory"),
        ("raise isolation.InputError('is odd')", "{'error': 'is odd'}"),
        ("raise FileNotFoundError(2, 'No such file or directory')", "cannot be read: No such file"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_whatever_decoding_does_is_reported(work: str, wanted: str) -> None:
    """Forked from a process without threads, like the helper."""
    code = LIMITED.format(work=work)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert wanted in done.stdout and done.stderr == ""


def test_recordings_may_be_decoded_side_by_side(tmp_path: Path) -> None:
    names = ["mp3", "ogg", "m4a", "webm", "amr"]
    for name in names:
        (tmp_path / name).write_bytes(WRITERS[name](chirp(2)))
    (tmp_path / "none").write_text("no recording")

    def seconds(name: str) -> float:
        try:
            return len(audiofile.decode(tmp_path / name).samples) / SAMPLE_RATE
        except InputError:
            return 0.0

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(seconds, [*names, "none"] * 5))
    for i, length in enumerate(found):
        assert length == (0 if i % 6 == len(names) else pytest.approx(2, abs=0.15))


def copied(folder: Path, decoding: str | None = None) -> Path:
    """The package in a folder of the test's own, for the helper; `decoding` in place of containers.py."""
    shutil.copytree(RUNTIME / "preheat", folder / "preheat")
    if decoding is not None:
        (folder / "preheat/audio/containers.py").write_text(decoding)
    return folder


def test_a_helper_that_is_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "HELPER", isolation.Helper())
    monkeypatch.setattr(isolation, "RUNTIME", copied(tmp_path))
    path = RECORDINGS / "phone.amr"
    wanted = audiofile.decode(path).samples
    (helper,) = running(tmp_path)
    os.kill(helper, 9)
    wait_until(lambda: not running(tmp_path))
    try:
        found = audiofile.decode(path).samples
    except InputError as error:  # a request sent just before it died is lost
        assert "decoder process was killed" in str(error)
        found = audiofile.decode(path).samples
    assert (found == wanted).all()


def test_nothing_outlives_its_master(tmp_path: Path) -> None:
    """Neither the helper nor a decoding process at work, however the main process ends."""
    copied(tmp_path, "import time\ndef decode(*_): time.sleep(600)")
    code = "from preheat.audio import isolation\n"
    code += f"isolation.decode(open({str(RECORDINGS / 'phone.amr')!r}, 'rb'))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as master:
        wait_until(lambda: len(running(tmp_path)) == 3)  # helper, waiting fork, decoding fork
        master.kill()
    wait_until(lambda: not running(tmp_path))


def running(folder: Path) -> set[int]:
    """The ids of live helpers, and of their forks, that run from this folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()  # of the dead it is empty
            if b"isolation.serve()" in command and (process / "cwd").readlink() == folder:
                found.add(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def wait_until(true: Callable[[], bool]) -> None:
    """Poll, with a limit generous enough for a busy machine."""
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fault_of_ours_is_no_error_of_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the helper has other modules."""
    helper = copied(tmp_path, "def decode(*_): return undefined")
    monkeypatch.setattr(isolation, "HELPER", isolation.Helper())
    monkeypatch.setattr(isolation, "RUNTIME", helper)
    with pytest.raises(isolation.FaultError, match="NameError: name 'undefined' is not defined"):
        audiofile.decode(RECORDINGS / "phone.amr")


def test_a_helper_that_does_not_start_is_a_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For instance in a venv without PyAV."""
    (tmp_path / "av.py").write_text("raise ModuleNotFoundError('No module named av')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(isolation, "HELPER", isolation.Helper())
    for _ in range(2):  # and again for the next recording
        with pytest.raises(isolation.FaultError, match="No module named av"):
            audiofile.decode(RECORDINGS / "phone.amr")
