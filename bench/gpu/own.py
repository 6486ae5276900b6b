"""The project's own tests on this machine: those that need a GPU first, then those that a GPU may affect."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.gpu.place import Place, Row
from bench.harness import ROOT

GRAPH, TRANSFER = "tests/runtime/model/test_graph.py", "tests/runtime/weights/test_transfer.py"
GPU_ONLY = [f"{GRAPH}::test_captured_steps_say_what_eager_ones_do", f"{TRANSFER}::test_to_a_gpu"]
FILES = [
    GRAPH,
    TRANSFER,
    "tests/runtime/test_timings.py",
    "tests/runtime/weights/test_loading.py",
    "tests/runtime/model/test_batched.py",
    "tests/runtime/test_cli.py",
]
# The tests in these files whose recordings need PyAV, which prepare.py leaves out.
WITH_AV = "one_bad_file or several_files or nothing_but_broken or incomplete_recording"

FINISHED = (0, 1)  # pytest's exit codes if all tests ran, passed or failed


def run(place: Place) -> Iterator[Row]:
    """Run each file in its own process, so that finished ones are reported even if time runs out."""
    yield from place.absent("tests", ", ".join(GPU_ONLY))
    tiny = [[f"{GRAPH}::test_on_the_cpu_each_call_goes_straight_through"]]
    for tests in place.pick([GPU_ONLY, *([file] for file in FILES)], tiny):
        yield from done(place, tests)


def done(place: Place, tests: list[str]) -> Iterator[Row]:
    """Run some tests and report their results."""
    report = place.scratch / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if find_spec("av") is None:
        command += ["-k", f"not ({WITH_AV})"]
    ended = subprocess.run([*command, *tests], cwd=ROOT, capture_output=True, text=True, check=False)
    name = Path(tests[0]).name if len(tests) == 1 else "those that need a GPU"
    suite = ET.parse(report).getroot()[0] if report.exists() else ET.Element("none")  # noqa: S314  trusted
    if ended.returncode not in FINISHED or not int(suite.get("tests", 0)):
        yield {"problem": f"{name}: pytest ended with {ended.returncode}: {ended.stdout[-300:]}"}
        return
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    yield {"table": "tests", "file": name} | counts | {"s": float(suite.get("time", 0))}
    wrong = [case for case in suite if case.find("failure") is not None or case.find("error") is not None]
    for case in wrong:
        found = case.find("failure")
        found = case.find("error") if found is None else found
        said = (found.get("message") or "") if found is not None else ""
        yield {"problem": f"{case.get('name')}: {said.partition(chr(10))[0][:200]}"}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    if place.gpu and tests == GPU_ONLY and passed < counts["tests"]:
        yield {"problem": "not all tests that need a GPU were done and passed"}
    yield {"finding": f"{name}: {passed} of {counts['tests']} passed, {counts['skipped']} skipped"}
