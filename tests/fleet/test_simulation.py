"""The simulation of the fleet: it loses nothing, repeats itself, and is decided by the product's own code."""

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import harness
from bench.fleet import __main__ as command
from bench.fleet.inputs import FILE, INPUTS, read
from bench.fleet.scenario import DAY, Scenario
from bench.fleet.simulation import Outcome, Simulation
from deploy import wake
from factory.console import ROOT
from factory.ec2.template import parameters
from preheat.fleet import policy

USUAL, ROWS = read(FILE)
ROUGH = replace(USUAL, noticed=0.5, speed=2.0)  # recordings of minutes, which interruptions hit
SCENARIOS = [
    Scenario("burst", burst=150),
    Scenario("day", steady=60),
    Scenario("by alarm", burst=30, steady=30, wake="alarm"),
    Scenario("one always there", burst=30, steady=30, wake="warm"),
    Scenario("interrupted", burst=150, interrupted=1.0),
    Scenario("interrupted, one always there", steady=60, wake="warm", interrupted=1.0),
    Scenario("no capacity", burst=60, zones=(0, 0), scarce=1800),
    Scenario("little capacity", burst=60, zones=(0, 2), scarce=inf, interrupted=1.0),
]


def simulated(scenario: Scenario, seed: int = 1) -> Outcome:
    return Simulation(ROUGH, scenario, seed).run()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_recording_ends_in_one_transcript(scenario: Scenario) -> None:
    for seed in range(3):
        day = simulated(scenario, seed)
        assert len(day.recordings) == scenario.burst + scenario.steady
        assert bool(day.interruptions) == bool(scenario.interrupted)
        ends = [len(each.transcripts) + day.dead.count(each) for each in day.recordings]
        assert ends == [1] * len(ends)
        assert all(each.transcripts >= [each.uploaded] for each in day.recordings if each not in day.dead)


def test_a_recording_that_is_received_too_often_is_dead() -> None:
    """Here every instance is taken back before anything is done."""
    doomed = replace(ROUGH, noticed=0.0, speed=0.001)
    day = Simulation(doomed, Scenario("doomed", burst=2, interrupted=10.0), 1).run()
    assert [each.received for each in day.dead] == [5, 5]
    assert not any(each.transcripts for each in day.recordings)


def test_it_repeats_itself() -> None:
    def figures(seed: int) -> tuple[list[list[float]], float]:
        day = simulated(Scenario("interrupted", burst=50, interrupted=1.0), seed)
        return [each.transcripts for each in day.recordings], day.billed

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_the_same_recordings_for_every_way_of_waking() -> None:
    days = [simulated(Scenario("", burst=5, steady=5, wake=way)) for way in ("event", "alarm", "warm")]
    uploads = [[(each.seconds, each.uploaded) for each in day.recordings] for day in days]
    assert uploads[0] == uploads[1] == uploads[2]


def test_a_day_without_uploads_costs_nothing() -> None:
    day = simulated(Scenario("nothing"))
    assert (day.launches, day.billed) == (0, 0.0)


def test_an_instance_that_is_always_there_is_paid_all_day() -> None:
    day = simulated(Scenario("nothing", wake="warm"))
    assert day.launches == 1
    assert DAY - 60 < day.billed <= DAY


def test_an_alarm_wakes_later_and_one_always_there_answers_first() -> None:
    waits = {}
    for way in ("warm", "event", "alarm"):
        (recording,) = simulated(Scenario("one", burst=1, wake=way)).recordings
        waits[way] = recording.transcripts[0] - recording.uploaded
    assert waits["warm"] + 30 < waits["event"] < waits["alarm"] - 60


# ---- the product's own code


def never(*_: object, **__: object) -> bool:
    return False


def test_a_lone_recording_costs_its_start_and_the_template_s_idle_minutes() -> None:
    day = simulated(Scenario("one", burst=1))
    (recording,) = day.recordings
    work = ROUGH.boot[1] + ROUGH.load[1] + recording.seconds / ROUGH.speed + ROUGH.fixed[1]
    idle = 60 * parameters()["IdleMinutes"]["Default"]
    assert idle < day.billed < idle + work + policy.POLL


def test_the_worker_decides_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "idle_end", never)
    day = simulated(Scenario("one", burst=1))
    assert day.billed > DAY - 3700


def test_the_worker_decides_how_much_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = policy.room
    monkeypatch.setattr(policy, "room", lambda *held: min(1, usual(*held)))
    one_at_a_time = simulated(Scenario("burst", burst=100))
    monkeypatch.setattr(policy, "room", usual)
    assert len({each.transcripts[0] for each in one_at_a_time.recordings}) == 100
    assert one_at_a_time.billed != simulated(Scenario("burst", burst=100)).billed


def test_the_wake_lambda_decides_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    burst = Scenario("burst", burst=100)
    assert (
        2
        < Simulation(USUAL, burst, 1).run().launches
        <= 100 / parameters()["RecordingsPerInstance"]["Default"]
    )
    monkeypatch.setattr(
        wake, "wanted", lambda waiting, _in_flight, desired, *_: max(desired, 2 * bool(waiting))
    )
    assert Simulation(USUAL, burst, 1).run().launches == 2


# ---- the command


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    picture = tmp_path / "fleet.svg"
    monkeypatch.setattr(
        "sys.argv", ["fleet", "--runs", "1", "--only", "burst of 10", "--picture", str(picture)]
    )
    assert command.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("burst of 10 ") for line in lines) == 3
    assert "price per audio h" not in "".join(lines)
    saved = json.loads((tmp_path / "fleet.json").read_text())
    assert saved["inputs"]["price"] == 0
    assert {each["scenario"]["wake"] for each in saved["figures"]} == {"event", "alarm", "warm"}
    texts = [element.text for element in ElementTree.fromstring(picture.read_text()).iter()]  # noqa: S314  ours
    assert {"woken by event", "woken by alarm", "one always there"} <= set(texts)


def test_the_cost_is_shown_where_there_is_a_price() -> None:
    priced = replace(USUAL, price=2.0, spot=0.5)
    figures = command.simulate(priced, Scenario("one", burst=1), [1])
    assert figures["cost_per_audio_h"] == pytest.approx(figures["instance_h_per_audio_h"])
    assert len(command.row(figures)) == len(command.HEAD) + 1


def test_an_input_that_is_missing_or_unknown_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "inputs.toml"
    file.write_text(FILE.read_text().replace("[speed]", "[sped]"))
    with pytest.raises(ValueError, match="missing or unknown: sped, speed"):
        read(file)


def test_the_results_name_the_inputs_of_today() -> None:
    results = (ROOT / "bench/RESULTS.md").read_text()
    assert harness.table(INPUTS, ROWS, len(INPUTS)) in results
