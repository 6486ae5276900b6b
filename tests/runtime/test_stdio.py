"""stdio.py from the command line: closed, full or ASCII-only streams, and how a process ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.runtime.console import NAME, Run, errors
from tests.runtime.homes import RUNTIME

STATE = [sys.executable, str(RUNTIME / "state.py")]
BUSY = """
import sys, threading, time
import soxr
from preheat import stdio

def work(begun):
    resampler = soxr.ResampleStream(48000, 16000, 1)
    begun.set()
    time.sleep(60)

def main(arguments):
    begun = threading.Event()
    threading.Thread(target=work, args=[begun], daemon=True).start()
    begun.wait()
    print("said", end="")
    raise SystemExit(3)

{end}
"""


def closing(*descriptors: int) -> dict[str, Any]:
    """Popen settings that start a process with closed descriptors, as >&- does in a shell."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return {"preexec_fn": close}


def test_without_stdin_and_stderr(run: Run, samples: Path) -> None:
    """Log messages are lost and do not go to stdout; exit codes are unchanged."""
    wanted = run("--quiet", samples / "short.flac").stdout
    assert "zero" in wanted
    for descriptors in ((2,), (0,), (0, 2)):
        done = run(samples / "short.flac", **closing(*descriptors))
        assert (done.returncode, done.stdout) == (0, wanted)
    assert (done := run("--no-such", **closing(2))).returncode == 2 and not done.stdout
    assert (done := run("/none.wav", **closing(2))).returncode == 1 and not done.stdout


def test_without_stdout(run: Run, samples: Path, tmp_path: Path) -> None:
    """Results that are meant for it are wrong usage, found before anything is loaded."""
    done = run(samples / "short.flac", "--timings", **closing(0, 1))
    wanted = "transcribe: standard output is closed; give a folder with -o DIR\n"
    assert (done.returncode, done.stderr) == (2, wanted)
    done = run("-o", tmp_path, samples / "short.flac", **closing(0, 1))
    assert done.returncode == 0 and errors(done) == []
    assert "zero" in (tmp_path / "short.txt").read_text()
    done = run("-o", tmp_path / "none", samples / "short.flac", **closing(0, 1, 2))
    assert done.returncode == 0
    assert "zero" in (tmp_path / "none/short.txt").read_text()


def test_state_without_streams(baked: Path) -> None:
    verify = [*STATE, "verify", str(baked / f"state/{NAME}.safetensors")]
    done = subprocess.run(verify, capture_output=True, timeout=60, check=False, **closing(0, 1))
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run(
        [*STATE, "verify", __file__], capture_output=True, timeout=60, check=False, **closing(2)
    )
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.fixture(params=["full", "nobody reads"])
def bad(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor that cannot be written to."""
    if request.param == "full":
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, writer = os.pipe()
        os.close(reader)
    yield writer
    os.close(writer)


def test_a_bad_stderr_ends_no_work(run: Run, samples: Path, bad: int) -> None:
    """Nor does it change an exit code, whichever code prints to it."""
    settings = {"capture_output": False, "stdout": PIPE, "stderr": bad}
    done = run("--timings", samples / "short.flac", "/none.wav", **settings)
    assert done.returncode == 1 and "zero" in done.stdout
    for arguments, code in (["--no-such"], 2), (["/none.wav"], 1), (["--home", "/none", __file__], 3):
        done = run(*arguments, **settings)
        assert (done.returncode, done.stdout) == (code, "")


def test_help_to_a_bad_stdout(run: Run, bad: int, request: pytest.FixtureRequest) -> None:
    done = run("--help", capture_output=False, stdout=bad, stderr=PIPE)
    if "full" in request.node.name:
        wanted = "transcribe: cannot write to standard output: No space left on device; check the space\n"
        assert (done.returncode, done.stderr) == (1, wanted)
    else:
        assert (done.returncode, done.stderr) == (141, "")


def test_a_report_to_a_full_disk(baked: Path) -> None:
    verify = [*STATE, "verify", str(baked / f"state/{NAME}.safetensors")]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(verify, stdout=full, stderr=PIPE, text=True, timeout=60, check=False)
    wanted = "state: cannot write to standard output: No space left on device; check the space\n"
    assert (done.returncode, done.stderr) == (1, wanted)


ASCII = {
    "terminal": {"PYTHONIOENCODING": "ascii"},
    "locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
SHOWN = {None: "Z\\xfcrich", "C": "Z\\xc3\\xbcrich"}  # in the latter, names are bytes


@pytest.mark.parametrize("settings", ASCII.values(), ids=ASCII)
def test_an_ascii_terminal(settings: dict[str, str], run: Run, samples: Path, home: Path) -> None:
    """Help, tables, names and errors are readable; results are UTF-8 as always."""
    odd = home.rename(home.with_name("Zürich"))
    name = Path(os.fsdecode(os.fsencode(odd) + b"/caf\xe9.flac"))
    name.symlink_to(samples / "short.flac")
    env = os.environ | settings | {"TRANSCRIBE_HOME": str(odd)}
    done = run("--help", "--home", odd, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "T[,T...]" in done.stdout and done.stdout.isascii()
    shown = SHOWN[settings.get("LC_ALL")]
    assert shown in done.stdout.replace("\n", "").replace(" ", "")
    binary = {"encoding": "utf-8", "errors": "surrogateescape"}
    done = run("--timings", "--home", odd, name, odd / "none.wav", env=env, **binary)
    assert done.returncode == 1 and done.stderr.isascii()
    assert done.stdout.startswith(f"==> {name} <==\nzero ")
    lines = done.stderr.splitlines()
    assert f"{shown}/none.wav: no such file" in lines[0]
    assert any(line.endswith(" s  load model") and " -> " in line for line in lines)
    assert any(f"{shown}/caf\\xe9.flac: 8.0 s of audio" in line for line in lines)


@pytest.mark.parametrize("settings", ASCII.values(), ids=ASCII)
def test_state_on_an_ascii_terminal(settings: dict[str, str], tmp_path: Path) -> None:
    env = os.environ | settings
    done = subprocess.run([*STATE, "--help"], env=env, capture_output=True, timeout=60, check=True)
    assert done.stdout.isascii()
    verify = [*STATE, "verify", str(tmp_path / "Zürich")]
    done = subprocess.run(verify, env=env, capture_output=True, timeout=60, check=False)
    shown = SHOWN[settings.get("LC_ALL")].encode()
    assert done.returncode == 1 and shown + b": No such file" in done.stderr


def test_a_name_is_one_line(main: Run, tmp_path: Path) -> None:
    """Even with control characters: no escape sequence in a name reaches the terminal."""
    done = main(tmp_path / "a\nb\x1b[2J\x7f.wav")
    (line,) = errors(done)
    assert line.endswith("/a\\x0ab\\x1b[2J\\x7f.wav: no such file; check the name and the folder")


def test_a_thread_at_work_is_not_reported() -> None:
    """For instance one that still decodes a recording at exit; what was printed before still arrives."""
    ends = {"stdio.run('busy', main)": b"", "main([])": b"nanobind: leaked"}
    for end, words in ends.items():
        code = BUSY.format(end=end)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=50, check=False)
        assert (done.returncode, done.stdout) == (3, b"said")
        assert done.stderr.startswith(words) and bool(done.stderr) == bool(words)
