"""A day of the fleet, simulated: how long a transcript takes, and how many instance hours it costs.

    python -m bench.fleet [--inputs FILE] [--runs 10] [--seed 1] [--only TEXT] [--picture FILE]

prints the inputs with their sources and a table of scenarios: bursts and steady uploads; waking by event, by
an alarm on the queue, and with one instance that is always there; spot interruptions; capacity missing in
zones. Nothing runs on AWS: simulation.py says what is a model and what is the product's own code.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil, inf
from pathlib import Path
from statistics import fmean

from bench.fleet import picture
from bench.fleet.inputs import FILE, INPUTS, Inputs, read
from bench.fleet.scenario import BURST, Scenario
from bench.fleet.simulation import Simulation
from bench.harness import Facts, save, table

WAKES = ("event", "alarm", "warm")
BURSTS, STEADY = (10, 1_000, 10_000), (200, 2_000)
INTERRUPTED = (0.05, 0.2)  # spot interruptions of an instance in an hour
SCENARIOS = (
    *(Scenario(f"burst of {n:,}", burst=n, wake=wake) for n in BURSTS for wake in WAKES),
    *(Scenario(f"{n:,} over the day", steady=n, wake=wake) for n in STEADY for wake in WAKES),
    *(
        Scenario(f"burst of 10,000, {x:.0%} an hour interrupted", burst=10_000, interrupted=x)
        for x in INTERRUPTED
    ),
    *(
        Scenario(f"2,000 over the day, {x:.0%} an hour interrupted", steady=2_000, interrupted=x)
        for x in INTERRUPTED
    ),
    Scenario("burst of 1,000, one zone of three with 4 instances", burst=1_000, zones=(0, 0, 4), scarce=inf),
    Scenario("burst of 1,000, no capacity for 10 minutes", burst=1_000, zones=(0, 0, 0), scarce=600),
)
ONE = tuple(Scenario(wake, burst=1, wake=wake) for wake in WAKES)
HEAD = (
    "scenario",
    "wake",
    "p50",
    "p99",
    "last",
    "instance h",
    "audio h",
    "per audio h",
    "launches",
    "interrupted",
)


def simulate(inputs: Inputs, scenario: Scenario, seeds: Sequence[int]) -> Facts:
    """The figures of a scenario over several days, each with a seed of its own."""
    days = [Simulation(inputs, scenario, seed).run() for seed in seeds]
    waits = sorted(
        each.transcripts[0] - each.uploaded for day in days for each in day.recordings if each.transcripts
    )
    lasts = [max(each.transcripts[0] for each in day.recordings if each.transcripts) for day in days]
    audio = sum(each.seconds for day in days for each in day.recordings)
    billed = sum(day.billed for day in days)
    return {
        "scenario": asdict(scenario),
        "days": len(days),
        "p50_s": percentile(waits, 50),
        "p99_s": percentile(waits, 99),
        "last_s": fmean(lasts) - BURST if scenario.burst else None,
        "instance_h": billed / 3600 / len(days),
        "audio_h": audio / 3600 / len(days),
        "instance_h_per_audio_h": billed / audio,
        "cost_per_audio_h": billed / audio * inputs.price * inputs.spot or None,
        "launches": fmean(day.launches for day in days),
        "interruptions": fmean(day.interruptions for day in days),
        "dead": sum(len(day.dead) for day in days),
        "phases": mean_phases([day.recordings[0].phases for day in days]),
    }


def mean_phases(days: Sequence[dict[str, float]]) -> dict[str, float]:
    """When each phase of a recording ended, on average, in seconds since its upload."""
    return {name: fmean(phases[name] for phases in days) for name in days[0]}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    return ordered[ceil(len(ordered) * percent / 100) - 1]


def row(figures: Facts) -> list[str]:
    """A line of the table."""
    scenario = figures["scenario"]
    return [
        scenario["name"],
        scenario["wake"],
        f"{figures['p50_s']:.0f} s",
        f"{figures['p99_s']:.0f} s",
        f"{figures['last_s']:.0f} s" if scenario["burst"] else "-",
        f"{figures['instance_h']:.2f}",
        f"{figures['audio_h']:.1f}",
        f"{figures['instance_h_per_audio_h']:.4f}",
        f"{figures['launches']:.1f}",
        f"{figures['interruptions']:.1f}",
        *([f"{figures['cost_per_audio_h']:.4f}"] if figures["cost_per_audio_h"] else []),
    ]


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--inputs", type=Path, default=FILE, help="a file like bench/fleet/inputs.toml")
    add("--runs", type=int, default=10, help="days of each scenario (default %(default)s)")
    add("--seed", type=int, default=1, help="of the first day (default %(default)s)")
    add("--only", default="", metavar="TEXT", help="scenarios with this in their name")
    add("--picture", type=Path, metavar="FILE", help="write an SVG")
    args = parser.parse_args()
    inputs, sources = read(args.inputs)
    seeds = range(args.seed, args.seed + args.runs)
    figures = [simulate(inputs, each, seeds) for each in SCENARIOS if args.only in each.name]
    one = [simulate(inputs, each, seeds) for each in ONE]
    print("A simulation: nothing has run on AWS, and no GPU has been measured. Its inputs:\n")
    print(table(INPUTS, sources, 4))
    print(
        f"\n{args.runs} days of each scenario, seeds from {args.seed}; p50 and p99 from upload to transcript"
    )
    print(table([*HEAD, *(["price per audio h"] if inputs.price else [])], map(row, figures), 2))
    print(f"\none recording, an empty fleet, by phases; means of {args.runs}")
    ends = [[each["scenario"]["wake"], *(f"{end:.1f} s" for end in each["phases"].values())] for each in one]
    print(table(["wake", *one[0]["phases"]], ends, 1))
    save("fleet", {"inputs": asdict(inputs), "figures": figures, "one": one})
    if args.picture:
        args.picture.write_text(picture.draw(one, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
