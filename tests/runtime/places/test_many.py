"""Many recordings: the messages about them, and interrupted runs."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import termios
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from threading import Thread
from time import monotonic, sleep

import pytest

from preheat.places.journal import Journal
from tests.runtime.conftest import command
from tests.runtime.console import Run, errors
from tests.runtime.places.conftest import Bucket
from tests.runtime.places.proxy import Proxy, Trouble


@pytest.fixture
def several(samples: Path, tmp_path: Path) -> list[Path]:
    """Recordings: one good, one truncated, one that is not a recording."""
    folder = tmp_path / "in"
    folder.mkdir()
    whole = (samples / "short.flac").read_bytes()
    for name, content in {"a.flac": whole, "b.flac": whole[:80_000], "c.flac": b"nothing"}.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def test_a_summary(main: Run, several: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main("-o", out, several[0]).returncode == 0
    done = main(
        "--skip_existing", "-o", out, "--summary", tmp_path / "s.json", *several, tmp_path / "none.flac"
    )
    assert done.returncode == 1
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["exit_code"] == 1
    counts = {
        name: content[name] for name in ("done", "incomplete", "skipped", "not_done", "failed", "faulty")
    }
    assert counts == {"done": 0, "incomplete": 1, "skipped": 1, "not_done": 0, "failed": 2, "faulty": 0}
    rows = {Path(each["name"]).stem: each for each in content["recordings"]}
    assert {name: each["outcome"] for name, each in rows.items()} == {
        "a": "skipped",
        "none": "failed",
        "b": "incomplete",
        "c": "failed",
    }
    assert rows["b"]["seconds"] == content["seconds"] > 2
    assert rows["b"]["spent"] > 0 and rows["b"]["language"] == "en"
    assert rows["b"]["words"] == content["words"] == len((out / "b.txt").read_text().split())
    assert rows["c"]["problem"].startswith("is not a recording") and rows["a"]["problem"] is None
    last = done.stderr.splitlines()[-1]
    assert re.search(
        r"\] 4 recordings: 1 skipped, 1 incomplete, 2 failed; \d\.\d s of audio in \d+\.\d s, ", last
    )


def test_a_summary_that_cannot_be_written(main: Run, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").mkdir()
    done = main("--summary", tmp_path / "s.json", samples / "short.flac")
    assert done.returncode == 1 and "zero" in done.stdout
    assert errors(done) == [
        f"transcribe: cannot write {tmp_path}/s.json: Is a directory; check space and permissions"
    ]


def test_lines_for_machines(main: Run, several: list[Path], tmp_path: Path) -> None:
    """Each line is a JSON object; those about a recording have its outcome."""
    done = main("--log_format", "json", "-o", tmp_path / "out", *several)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    about = {Path(line["name"]).name: line for line in lines if "name" in line}
    assert {name: (line["level"], line["outcome"]) for name, line in about.items()} == {
        "a.flac": ("info", "done"),
        "b.flac": ("warning", "incomplete"),
        "c.flac": ("warning", "failed"),
    }
    assert about["a.flac"]["words"] == len((tmp_path / "out/a.txt").read_text().split())
    assert lines[-1]["done"] == 1 and lines[-1]["seconds"] > 8
    assert "\n" not in main("--log_format", "json", "/none\n.wav").stderr.strip()
    assert main("--quiet", "/none.wav").stderr.startswith("transcribe: /none.wav: ")  # not JSON for ever


def test_a_line_a_recording_off_a_terminal(main: Run, several: list[Path]) -> None:
    done = main(several[0], several[0])
    about = [line for line in done.stderr.splitlines() if "a.flac: 8.0 s of audio in" in line]
    assert len(about) == 2 and "2 recordings: 2 done; 16.0 s" in done.stderr.splitlines()[-1]
    assert "\x1b" not in done.stderr


def on_terminal(*arguments: str | Path, baked: Path, folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a run in a folder, whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x28\0\x78\0\0\0\0\0")  # 40 lines of 120 characters
    environment, said = os.environ | {"TERM": "xterm"}, []

    def read() -> None:
        with suppress(OSError):  # EIO: the other end of the terminal is closed
            while content := os.read(ours, 65536):
                said.append(content)

    with subprocess.Popen(
        command(baked, *arguments), stdout=PIPE, stderr=theirs, cwd=folder, env=environment
    ) as process:
        os.close(theirs)
        reader = Thread(target=read)
        reader.start()
        process.communicate(timeout=120)
    reader.join()
    os.close(ours)
    return process.returncode, b"".join(said).decode()


def test_a_bar_and_a_table_on_a_terminal(baked: Path, several: list[Path], tmp_path: Path) -> None:
    """For several recordings; not with --quiet."""
    odd = "[bold]a\x1b[2J.flac"
    folder = several[0].rename(several[0].with_name(odd)).parent
    code, said = on_terminal("-o", "out", odd, "b.flac", "c.flac", baked=baked, folder=folder)
    assert code == 1 and "3/3" in said and "recordings" in said and "━" in said
    assert re.search(r"\[bold\]a\\x1b\[2J\.flac +│ done +│ 8\.0 +│ \d+ +│ en +│ \d", said)
    assert re.search(r"c\.flac +│ failed", said)
    assert "\x1b[2J" not in said
    for arguments in (["--quiet", odd, "b.flac"], ["--log_format", "json", odd, "b.flac"], [odd]):
        _, said = on_terminal("-o", "out", *arguments, baked=baked, folder=folder)
        assert "━" not in said


INTERRUPTS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", INTERRUPTS)
def test_interrupted(number: signal.Signals, baked: Path, samples: Path, tmp_path: Path) -> None:
    """Finished results are complete; the other recordings are named, and done by the next run."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcdefgh":
        (folder / f"{name}.flac").symlink_to(samples / "long.flac")
    words = ("-f", "all", "-o", tmp_path / "out", "--summary", tmp_path / "s.json", folder)
    with subprocess.Popen(command(baked, *words), stderr=PIPE, text=True) as process:
        assert process.stderr
        while "/a.flac: 78.0 s" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == INTERRUPTS[number]
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["exit_code"] == process.returncode
    names = {each["name"]: each["outcome"] for each in content["recordings"]}
    done = [name for name, outcome in names.items() if outcome == "done"]
    left = [name for name, outcome in names.items() if outcome == "not done"]
    assert len(names) == 8 and len(done) + len(left) == 8 and f"{folder}/a.flac" in done and left
    assert f"transcribe: interrupted; not done: {', '.join(left)}\n" in rest
    written = sorted(path.name for path in (tmp_path / "out").glob("*.*"))
    kinds = ("json", "srt", "tsv", "txt", "vtt")
    assert written[-len(done) * 5 :] == sorted(f"{Path(name).stem}.{kind}" for name in done for kind in kinds)
    with subprocess.Popen(command(baked, *words, "--skip_existing"), stderr=PIPE, text=True) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said.count("already done") == len(done) and said.count("s of audio in") == len(left) + 1


def test_interrupted_while_writing(baked: Path, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    """The write is completed; a second signal ends the run at once."""
    waits = {1: 4, 2: 60}  # seconds, by signals
    words = ("-o", "s3://recordings/", samples / "short.flac", samples / "noise.flac")
    for times, wait in waits.items():
        trouble = Trouble(wait=wait)
        proxy.trouble = lambda method, *_: trouble if method == "PUT" else None  # noqa: B023
        del proxy.requests[:]
        with subprocess.Popen(command(baked, *words), stderr=PIPE, text=True) as process:
            while not any(method == "PUT" for method, *_ in proxy.requests):
                assert process.poll() is None
                sleep(0.02)
            start = monotonic()
            for _ in range(times):
                process.send_signal(signal.SIGTERM)
                sleep(0.3)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 143
        if times == 1:
            assert sorted(bucket.contents()) == ["short.json", "short.txt"]
            assert f"interrupted; not done: {samples}/noise.flac" in said
        else:
            assert monotonic() - start < waits[2] / 2


def test_a_journal_with_a_line_cut_short(tmp_path: Path) -> None:
    """It is ignored, but not the next line."""
    path = tmp_path / "journal"
    facts = {"stem": "a", "digest": "1", "formats": ["txt"], "complete": True}
    Journal(path).add(facts)
    Journal(path).add(facts | {"stem": "b"})
    path.write_bytes(path.read_bytes()[:-9])
    assert Journal(path).find("a") and Journal(path).find("b") is None
    Journal(path).add(facts | {"stem": "c", "digest": "2"})
    Journal(path).add(facts | {"stem": "a", "digest": "3"})
    found = Journal(path)
    assert found.find("b") is None
    assert [found.find(stem)["digest"] for stem in "ca"] == ["2", "3"]  # type: ignore[index]
