"""All checks that need a GPU, in one run of at most 8 minutes.

    bench/gpu.sh [--cpu] [--only attention,step] [--output FILE] [--scratch DIR]

Each step (steps.py) runs in its own process with a time limit. One that fails or hangs is reported, and the
others still run. Prints the results of each step, and a summary table at the end. All of it is in
build/bench/gpu.json, which is rewritten after each step, and from which report.py makes the section of
bench/RESULTS.md. The exit code is 1 if there was any problem.

Needs Python 3.12 with torch, transformers and the other packages that prepare.py lists, but no network:
`--prepare`, run on a machine with network, puts the rest into build/gpu. The weights are random, of the real
shapes, and made on the device. `--cpu` runs everything with a tiny model and without a GPU.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.gpu import prepare, report
from bench.gpu.place import Place
from bench.gpu.steps import STEPS, run
from bench.harness import RESULTS, machine, names

TOTAL = 480.0  # seconds
PATIENCE = 10  # factor for time limits without a GPU: nothing is measured then, and the machine may be busy


def main() -> int:
    """Run the steps; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description="Every check that takes a GPU.")
    add = parser.add_argument
    known = [step.name for step in STEPS]
    add("--prepare", action="store_true", help="fetch what a machine without network needs, and end")
    add("--cpu", action="store_true", help="try the checks with a tiny model, without a GPU")
    add("--only", type=names, default=known, metavar="A,B", help=f"of the steps {', '.join(known)}")
    add("--output", type=Path, default=RESULTS / "gpu.json", metavar="FILE", help="default: %(default)s")
    add("--scratch", type=Path, metavar="DIR", help=f"models are made there (default: in {RESULTS})")
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare.main()
        return 0
    if unknown := set(arguments.only).difference(known):
        parser.error(f"no step {min(unknown)!r}; there are {', '.join(known)}")
    device = "cpu" if arguments.cpu else "cuda"
    place = Place(device, (arguments.scratch or RESULTS / f"gpu-{device}").resolve())
    place.scratch.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step.name in arguments.only]
    started = time.monotonic()
    about = {"machine": machine(place.scratch)}
    longer = place.pick(1, PATIENCE)
    steps = [replace(step, limit=longer * step.limit) for step in steps]
    outcomes = run(steps, place, longer * TOTAL, arguments.output.resolve(), about)
    print(report.plain(arguments.output))
    print(f"{time.monotonic() - started:.0f} s on the {device}; wrote {arguments.output}")
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
