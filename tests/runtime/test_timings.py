"""The output of --timings: each phase, on one clock; and phases that can overlap do."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.runtime.console import NAME, Run


def test_timings_as_json(main: Run, samples: Path) -> None:
    done = main("--timings=json", "--quiet", samples / "short.flac")
    (line,) = done.stderr.splitlines()
    facts = json.loads(line)
    assert (facts["strategy"], facts["device"], facts["model"]) == ("state", "cpu", NAME)
    assert facts["audio_s"] == pytest.approx(8.0, abs=0.1)
    assert 0 < facts["load_s"] < facts["ready_s"] < facts["total_s"]
    assert facts["speed"] == pytest.approx(facts["audio_s"] / facts["decode_s"], rel=0.01)
    assert {phase["name"] for phase in facts["phases"]} == PHASES
    assert all(0 <= phase["start_s"] <= phase["end_s"] <= facts["total_s"] for phase in facts["phases"])


PHASES = {
    "start python",
    "import audio",
    "check header",
    "check data",
    "import torch",
    "import network",
    "load model",
    "decode audio",
    "find speech",
    "transcribe",
    "write",
}


def test_phases_overlap_where_they_can(run: Run, samples: Path) -> None:
    """One clock for all; the recording and the state file are read while torch is imported."""
    done = run("--timings=json", "--quiet", samples / "short.flac")
    facts = json.loads(done.stderr.splitlines()[-1])
    assert len(facts["phases"]) == len(PHASES)  # each of them once
    start = {phase["name"]: phase["start_s"] for phase in facts["phases"]}
    end = {phase["name"]: phase["end_s"] for phase in facts["phases"]}
    one_by_one = ["start python", "import audio", "import torch", "import network", "load model"]
    one_by_one += ["transcribe", "write"]
    for before, after in pairwise(one_by_one):
        assert end[before] <= start[after]
    assert end["load model"] <= facts["ready_s"] <= start["transcribe"]
    assert start["check header"] < start["import torch"]
    assert start["decode audio"] < end["import torch"]
    assert end["decode audio"] <= start["find speech"] and end["find speech"] <= start["transcribe"]
    assert facts["load_s"] == pytest.approx(end["load model"] - start["load model"], abs=0.002)
    assert facts["decode_s"] == pytest.approx(end["transcribe"] - start["transcribe"], abs=0.002)


def test_the_next_recording_is_listened_to_meanwhile(main: Run, samples: Path) -> None:
    done = main("--timings=json", "--quiet", samples / "long.flac", samples / "short.flac")
    phases = json.loads(done.stderr.splitlines()[-1])["phases"]
    transcribed = min(phase["end_s"] for phase in phases if phase["name"] == "transcribe")
    assert max(phase["start_s"] for phase in phases if phase["name"] == "decode audio") < transcribed


def test_timings_alone_print_a_table(main: Run, samples: Path) -> None:
    """And --timings does not take the file after it for its value."""
    done = main("--quiet", "--timings", samples / "short.flac")
    assert done.returncode == 0 and done.stdout
    assert any(line.endswith(" s  load model") for line in done.stderr.splitlines())
