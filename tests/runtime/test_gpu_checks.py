"""bench/gpu.sh: a complete run without a GPU, and the handling of steps that fail."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import __main__ as command
from bench.gpu import prepare, report, steps
from bench.gpu.place import Place
from bench.gpu.steps import STEPS, Step
from tests.runtime.homes import ROOT

LONG = 300.0  # seconds, for steps that should not time out


def test_all_of_it_without_a_gpu(tmp_path: Path) -> None:
    """With a tiny model, every step by the same path as on a GPU, except for what needs a GPU."""
    found = tmp_path / "gpu.json"
    called = [str(ROOT / "bench/gpu.sh"), "--cpu", "--scratch", str(tmp_path / "scratch")]
    done = subprocess.run([*called, "--output", str(found)], capture_output=True, text=True, check=False)
    outcomes = {step["name"]: step for step in json.loads(found.read_text())["steps"]}
    assert {name: step["result"] for name, step in outcomes.items()} == {step.name: "ok" for step in STEPS}
    assert done.returncode == 0
    rows = {name: step["rows"] for name, step in outcomes.items()}
    assert all(any("table" in row for row in found) for found in rows.values())
    left_out = {name for name, found in rows.items() if any("left out" in row for row in found)}
    assert left_out == {"step", "fresh", "varlen", "faults", "own", "storage"}
    # Output that would be missing if a step did not do its work.
    assert {row["way"] for row in tabled(rows["attention"], "ways")} == {
        "flash",
        "efficient",
        "cudnn",
        "math",
    }
    assert {row["way"] for row in tabled(rows["step"], "decoding") if "way" in row} == {"eager", "graph"}
    assert {row["model"] for row in tabled(rows["hour"], "half a minute")} == {"nano"}
    assert any(
        file.endswith("torch/__init__.py") or "torch/__pycache__" in file for file in listed(rows["reads"])
    )
    for text in (done.stdout, report.markdown(found)):
        assert all(f"\n{step.name} " in text for step in STEPS)


def tabled(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [row for row in rows if row.get("table") == name]


def listed(rows: list[dict[str, Any]]) -> list[str]:
    """The files in a list of files and sizes."""
    (files,) = [row["list"] for row in rows if "list" in row]
    return [name for name, _ in files]


MODULES = {  # what a step may do, and the message about it
    "works": ('yield {"table": "numbers", "n": 1}', "ok"),
    "fails": (
        'yield {"table": "numbers", "n": 2}\n    raise ValueError("a reason")',
        "failed (1): ValueError: a reason",
    ),
    "hangs": (
        'import subprocess as s; child = s.Popen(["sleep", "1000"])\n'
        '    yield {"table": "numbers", "n": 3, "child": child.pid}\n    child.wait()',
        "stopped after 10 s, its limit",
    ),
    "stops in the middle": (
        'yield {"table": "numbers", "n": 9}\n    import os, sys; from pathlib import Path\n'
        '    file = open(sys.argv[-1], "a"); file.write("{\\"half"); file.flush(); os.kill(os.getpid(), 9)',
        "failed (-9): it said nothing",
    ),
    "dies": ("yield {}\n    import os; os.kill(os.getpid(), 9)", "failed (-9): it said nothing"),
    "says": ('yield {"problem": "one"}\n    yield {"n": 4, "problem": "two"}', "one; two"),
    "finds nothing": ("yield from ()", "failed: it found nothing"),
    "is not there": ("", "failed (1): ModuleNotFoundError: No module named 'not_there'"),
    "works in the end": ('yield {"table": "numbers", "n": 5}', "ok"),
}


def made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Steps that do what MODULES says."""
    monkeypatch.setenv("PYTHONPATH", str(folder))
    found = []
    for number, (name, (body, _)) in enumerate(MODULES.items()):
        module = f"step_{number}" if body else "not_there"
        if body:
            (folder / f"{module}.py").write_text(f"def run(place):\n    {body}\n")
        found.append(Step(name, 10 if name == "hangs" else LONG, module))
    return found


def test_whatever_becomes_of_a_step_all_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each failure is reported, its output so far is kept, and the command fails."""
    monkeypatch.setattr(command, "STEPS", made(tmp_path, monkeypatch))
    monkeypatch.setattr(command, "PATIENCE", 1)
    monkeypatch.setattr(command, "TOTAL", LONG)
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(
        sys, "argv", ["gpu", "--cpu", "--scratch", str(tmp_path / "scratch"), "--output", str(output)]
    )
    assert command.main() == 1
    outcomes = json.loads(output.read_text())["steps"]
    assert {step["name"]: step["result"] for step in outcomes} == {
        name: wanted for name, (_, wanted) in MODULES.items()
    }
    numbers = [row["n"] for step in outcomes for row in step["rows"] if "n" in row]
    assert numbers == [1, 2, 3, 9, 4, 5]
    (child,) = [row["child"] for step in outcomes for row in step["rows"] if "child" in row]
    command_line = Path(f"/proc/{child}/cmdline")  # empty for a zombie, until its parent has waited for it
    assert not command_line.exists() or not command_line.read_bytes()
    printed = capsys.readouterr().out
    assert "NOT OK" in printed and "stopped after 10 s" in printed and "a reason" in printed
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--only", "works,works in the end"])
    assert command.main() == 0


def test_when_time_is_up_the_rest_is_told_and_not_begun(tmp_path: Path) -> None:
    outcomes = steps.run([Step("late", LONG, "nowhere")], Place("cpu", tmp_path), 0.5, tmp_path / "kept", {})
    assert [outcome.result for outcome in outcomes] == ["not begun: the 0 s were over"]
    assert json.loads((tmp_path / "kept").read_text())["steps"][0]["name"] == "late"


def test_a_run_takes_eight_minutes_at_most() -> None:
    assert sum(step.limit for step in STEPS) <= command.TOTAL <= 8 * 60


def test_what_travels_is_of_the_lock() -> None:
    """With a hash for each; without hashes, pip would accept any file."""
    wanted = prepare.locked((ROOT / "requirements.txt").read_text())
    entries = [line for line in wanted.splitlines() if "==" in line]
    assert [entry.partition("==")[0] for entry in entries] == prepare.PACKAGES
    assert all(line.startswith("    --hash=sha256:") for line in wanted.splitlines() if "==" not in line)
    with pytest.raises(SystemExit, match="cffi is not in"):
        prepare.locked("torch==1 \\\n    --hash=sha256:00\n")
