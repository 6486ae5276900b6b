"""Common code of the benchmarks: fresh processes, page cache, facts on the machine, tables, results."""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
RESULTS = ROOT / "build" / "bench"
SAMPLES = ROOT / "tests" / "fixtures" / "samples"
PACKAGES = (
    "torch",
    "transformers",
    "faster-whisper",
    "ctranslate2",
    "openai-whisper",
    "safetensors",
    "fastsafetensors",
    "runai-model-streamer",
)
THREADING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # they matter on a shared machine
BLOCK = 16 << 20  # bytes read at a time

Facts = dict[str, Any]  # measurements that one process reports


class TrialError(Exception):
    """A process failed; the message is the last line of its output."""


def call(command: Sequence[str], threads: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the project's Python in a fresh process, with `threads` threads in torch. Raises TrialError."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "RUNAI_STREAMER_CONCURRENCY": str(threads)}
    done = subprocess.run(
        [PYTHON, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise TrialError(said[-1])
    return done


def measure(command: Sequence[str], threads: int) -> tuple[str, Facts]:
    """Run a fresh process; its stdout, and the last JSON line of its stderr. Raises TrialError."""
    done = call(command, threads)
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    if not lines:
        raise TrialError("it printed no timings")
    facts: Facts = json.loads(lines[-1])
    return done.stdout, facts


def warm(files: Iterable[Path]) -> None:
    """Read files, or all files below folders, into the page cache."""
    for path in files:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb", buffering=0) as opened:
                    while opened.read(BLOCK):
                        pass


def drop_caches() -> None:
    """Drop the page cache: not only the model's files, but those of Python and torch, too. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def add_options(parser: argparse.ArgumentParser, systems: list[str]) -> None:
    """Add the options that all benchmarks have."""
    add = parser.add_argument
    add("--runs", type=int, default=5, help="counted runs of each system (default %(default)s)")
    add(
        "--device",
        choices=("cpu", "cuda"),
        default="cuda" if has_gpu() else "cpu",
        help="default: %(default)s",
    )
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="default: what suits the device")
    add("--threads", type=int, default=cores(), help="threads of each system (default: %(default)s)")
    add(
        "--scratch",
        type=Path,
        default=RESULTS / "models",
        help="models are made there (default: %(default)s)",
    )

    def known(text: str) -> list[str]:
        if unknown := set(names(text)).difference(systems):
            raise argparse.ArgumentTypeError(f"no {min(unknown)!r}; there are {', '.join(systems)}")
        return names(text)

    add("--only", type=known, default=systems, metavar="A,B", help=f"of the systems {', '.join(systems)}")


def names(text: str) -> list[str]:
    """The value of a comma-separated option."""
    return text.split(",")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def has_gpu() -> bool:
    """Whether an NVIDIA driver has found a GPU."""
    return Path("/proc/driver/nvidia/gpus").is_dir() or Path("/dev/nvidia0").exists()


def suitable_dtype(device: str) -> str:
    """The 16-bit type that the device computes fast, else float32.

    torch could tell, but is not imported: a cold start is measured with a dropped page cache, and files that
    this process has mapped would stay in it.
    """
    if device == "cuda":
        return "float16"
    return "bfloat16" if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else "float32"


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())


def machine(storage: Path) -> Facts:
    """Hardware, versions and load; `storage` is a folder on the file system that the models are read from."""
    gpus: list[str] = []
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    mount = ""
    if shutil.which("findmnt"):
        find = ["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--target", str(storage)]
        mount = subprocess.run(find, capture_output=True, text=True, check=False).stdout
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "gpus": gpus,
        "storage": " ".join(mount.split()),
        "kernel": platform.release(),
        "python": f"{platform.python_version()} ({Path(sys.executable).resolve()})",
        "load_average": round(os.getloadavg()[0], 2),
        "environment": {name: os.environ[name] for name in THREADING if name in os.environ},
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def versions() -> dict[str, str]:
    """The versions of the installed ones of PACKAGES."""
    installed = {found.name for found in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}


def describe(facts: Facts) -> str:
    """The machine in two lines, for the head of a table."""
    devices = "; ".join([f"{facts['cores']} cores {facts['processor']}", *facts["gpus"]])
    load = f"load {facts['load_average']}"
    state = "; ".join([load, *(f"{name}={value}" for name, value in facts["environment"].items())])
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{devices}; {facts['memory_gb']} GB memory; {facts['storage']}; {state}\n"
        f"Python {facts['python']}, {versions}"
    )


def median(runs: Iterable[Facts], key: str) -> float:
    """The median of one figure."""
    return statistics.median(float(run[key]) for run in runs)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """Columns as wide as they need to be; the first `left` of them are words, the others numbers."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def save(name: str, results: Facts) -> Path:
    """Write build/bench/NAME.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(results, indent=1, default=str) + "\n")
    return path
