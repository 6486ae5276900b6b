"""The first start on a fresh instance: the time to the first words from a volume that is slow on first touch.

    .venv/bin/python -m bench.boot [--latency 20] [--rate 300] [--volumes 3] [--quick] [--model large-v3-16]

boots the finished image (make image) under systemd-nspawn from a volume that volume.py serves. As on an EBS
volume made from a snapshot, a block of 512 KiB takes --latency milliseconds when it is first touched, and
blocks arrive at --rate MiB/s at most. Every combination of two settings is measured: the image's read-ahead
on or off, and its layout on or off. Layout off is a copy of the disk (7 GB) on which the listed files are
where an installer would have put them. `transcribe` is run on the 8 s sample as soon as ssh answers, or 30 s
later, and then once more, when its blocks have arrived. Each run has a fresh volume and begins with an empty
page cache, as on a new instance; a full one would evict what has been read ahead. --quick uses one volume for
each combination instead of --volumes. With --model, a copy of the disk has the state file of one of
bench.shapes' models, with random weights, in place of the image's, and a second of silence is transcribed:
what counts is when the model is ready.

Prints medians, and writes every run to build/bench/boot.json and the bytes that had arrived, over time, to
build/bench/boot.svg; with --model, MODEL is added to their names. "Ready" is when the model is loaded; the
last column compares the time from the machine's start to that with the time that the bytes take at --rate.
The volume's server and the machine share the processors; a column has the server's processor seconds. Needs
root, and Debian's python3-pyfuse3 (make setup).
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from bench.boot.disks import HOME, SILENCE, scattered, with_model
from bench.boot.picture import BLOCK, draw
from bench.harness import RESULTS, describe, drop_caches, machine, median, save, table
from bench.models import Models
from factory.console import FactoryError, say
from factory.local.basedisk import ROOT_OFFSET
from factory.local.image import ARTIFACT
from factory.local.loop import loop_device
from factory.local.machine import overlaid, running
from factory.local.mounts import reaching_copies
from factory.ssh import Machine
from factory.workspace import workspace

BOOT_SECONDS = 180
PAUSE = 30  # seconds: for a user who logs in and looks around before transcribing
COMMAND = "transcribe --load=state --timings=json"
SAMPLE = HOME / "sample.flac"
UNIT = "preheat-prefetch.service"
READ_AHEAD_KIB = 128  # the kernel's default for an NVMe disk; for a loop device it is 20 times as much
IN_FLIGHT = 256  # FUSE requests under way at a time; the default is 12

Facts = dict[str, Any]


@contextmanager
def volume(disk: Path, folder: Path, latency: float, rate: float) -> Iterator[tuple[Path, Facts]]:
    """A file with the contents of `disk` that is slow on first touch; at the end, the facts hold its log."""
    files, log, control = folder / "volume", folder / "volume.json", folder / "control"
    for path in (files, control):
        path.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    facts: Facts = {}
    program = Path(__file__).with_name("volume.py")
    server = subprocess.Popen(["/usr/bin/python3", program, disk, files, str(latency), str(rate), log])
    try:
        end = time.monotonic() + 10
        while not (files / "disk").exists():
            if server.poll() is not None or time.monotonic() > end:
                raise FactoryError("the volume cannot be served", "Its message is above. Run: make setup")
            time.sleep(0.05)
        subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
        try:
            connection = control / str(files.stat().st_dev)
            for name in ("max_background", "congestion_threshold"):
                (connection / name).write_text(str(IN_FLIGHT))
        finally:
            subprocess.run(["umount", control], check=True)
        yield files / "disk", facts
    finally:
        server.terminate()
        server.wait()
    facts |= json.loads(log.read_text())


@contextmanager
def mounted(file: Path, target: Path) -> Iterator[Path]:
    """The root file system of a served disk, read-only, without a second page cache below it."""
    target.mkdir(exist_ok=True)
    with reaching_copies(target):
        with loop_device(file, ROOT_OFFSET, read_only=True, direct_io=True) as device:
            knob = Path("/sys/block") / Path(device).name / "queue/read_ahead_kb"
            knob.write_text(f"{READ_AHEAD_KIB}\n")
            subprocess.run(["mount", "-o", "ro,noload", device, target], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", target], check=True)


def transcribe(machine: Machine, recording: Path) -> Facts:
    """One `transcribe` over ssh: when it began, when its words arrived, and the phases that it reports."""
    begun = time.monotonic()
    done = subprocess.run(
        [*machine.ssh(), f"{COMMAND} /{recording}"], capture_output=True, text=True, check=False
    )
    ended = time.monotonic()
    if done.returncode:
        raise FactoryError(f"transcribe failed: {done.stderr}", "Run: make test-image")
    return {"begun": begun, "ended": ended, "timings": json.loads(done.stderr.splitlines()[-1])}


def start(disk: Path, given: argparse.Namespace, *, read_ahead: bool, pause: float) -> Facts:
    """Boot from a fresh volume, start after `pause` seconds, and again when its blocks have arrived."""
    with ExitStack() as stack:
        folder = stack.enter_context(workspace("bench-boot"))
        file, served = stack.enter_context(volume(disk, folder, given.latency, given.rate))
        root = stack.enter_context(overlaid(stack.enter_context(mounted(file, folder / "disk")), folder))
        if not read_ahead:
            unit = root / "etc/systemd/system" / UNIT
            unit.unlink(missing_ok=True)
            unit.symlink_to("/dev/null")
        drop_caches()
        booted = time.monotonic()
        found = stack.enter_context(running(root, folder, "bench-boot", BOOT_SECONDS))
        answered = time.monotonic()
        time.sleep(pause)
        recording = SILENCE if given.model else SAMPLE
        first, second = transcribe(found, recording), transcribe(found, recording)
        said = (
            found.run(f"sudo journalctl --quiet --unit={UNIT} --output=short-monotonic --grep=read")
            if read_ahead
            else ""
        )
    arrived = [at - booted for at in served["arrived"]]
    before = [at for at in arrived if at < first["ended"] - booted]
    return {
        "read_ahead": read_ahead,
        "pause": pause,
        "ssh_s": answered - booted,
        "command_s": first["begun"] - booted,
        "words_s": first["ended"] - booted,
        "first_s": first["ended"] - first["begun"],
        "warm_s": second["ended"] - second["begun"],
        "ready_s": first["timings"]["ready_s"],
        "timings": first["timings"],
        "blocks": len(before),
        "in_flight": served["most"],
        "server_cpu_s": served["cpu_s"],
        "unit": said.strip().splitlines(),
        "arrived": [round(at, 3) for at in arrived],
    }


def rows(runs: list[Facts], rate: float) -> Iterator[list[str]]:
    """A row of medians for each setting."""
    for pause in sorted({run["pause"] for run in runs}):
        off = 0.0
        for layout, read_ahead in SETTINGS:
            setting = {"pause": pause, "layout": layout, "read_ahead": read_ahead}
            own = [run for run in runs if setting.items() <= run.items()]
            first, warm = median(own, "first_s"), median(own, "warm_s")
            off = off or first
            megabytes = median(own, "blocks") * BLOCK / 1e6
            loaded = median([{"s": run["command_s"] + run["ready_s"]} for run in own], "s")
            yield [
                f"{pause:.0f} s after ssh" if pause else "at once",
                ON[layout],
                ON[read_ahead],
                f"{median(own, 'ssh_s'):.2f} s",
                f"{median(own, 'ready_s'):.2f} s",
                f"{first:.2f} s",
                f"{warm:.2f} s",
                f"{first / warm:.2f}",
                f"{off / first:.1f}",
                f"{median(own, 'blocks'):.0f}",
                f"{megabytes:.0f} MB",
                f"{median(own, 'in_flight'):.0f}",
                f"{median(own, 'server_cpu_s'):.1f} s",
                f"{loaded * rate * 2**20 / 1e6 / megabytes:.2f}",
            ]


ON = {False: "off", True: "on"}
SETTINGS = ((False, False), (True, False), (False, True), (True, True))  # layout, read-ahead
HEAD = (
    "command",
    "layout",
    "read-ahead",
    "start to ssh",
    "command to ready",
    "to words",
    "once more",
    "to that",
    "off to it",
    "blocks",
    "bytes",
    "in flight",
    "server's CPU",
    "start to ready, to bytes",
)


def main() -> None:
    """Run everything in turn, print the table, write the files."""
    parser = argparse.ArgumentParser(description="The first start on a volume that is slow on first touch.")
    add = parser.add_argument
    add("--latency", type=float, default=20, help="ms for the first touch of a block (default %(default)s)")
    add("--rate", type=float, default=300, help="MiB/s at which blocks arrive (default %(default)s)")
    add("--volumes", type=int, default=3, help="fresh volumes for each setting (default %(default)s)")
    add("--quick", action="store_true", help="one volume for each setting")
    add("--model", help="of bench.shapes, as large-v3-16 (default: the image's)")
    add("--scratch", type=Path, default=Path("build/bench"), help="for the model (default %(default)s)")
    given = parser.parse_args()
    if not ARTIFACT.raw.exists():
        parser.error(f"{ARTIFACT.raw} does not exist. Run: make image")
    host = machine(ARTIFACT.raw.parent)
    runs = []
    with workspace("bench-boot-disk") as folder:
        laid = ARTIFACT.raw
        if given.model:
            laid = with_model(laid, folder, Models(given.scratch.resolve(), "bfloat16"), given.model)
        disks = {True: laid, False: scattered(laid, folder)}
        for number in range(1 if given.quick else given.volumes):
            for pause, (layout, read_ahead) in product((0, PAUSE), SETTINGS):
                run = start(disks[layout], given, read_ahead=read_ahead, pause=pause)
                runs.append(run | {"layout": layout})
                say(
                    f"volume {number + 1}, layout {ON[layout]}, read-ahead {ON[read_ahead]}: "
                    f"ssh {run['ssh_s']:.2f} s, command after {pause} s: ready in {run['ready_s']:.2f} s, "
                    f"words in {run['first_s']:.2f} s, "
                    f"again {run['warm_s']:.2f} s; " + " ".join(run["unit"][-1:])
                )
    record = json.loads(ARTIFACT.record.read_text())
    model = f"{record['model']['name']}, {record['state']['dtype']}"
    if given.model:
        model = f"{given.model}, bfloat16"
    print(describe(host))
    print(
        f"first touch {given.latency:g} ms, {given.rate:g} MiB/s; {model}; page cache empty; "
        f"medians of {1 if given.quick else given.volumes}"
    )
    print(table(HEAD, rows(runs, given.rate), left=3))
    name = f"boot-{given.model}" if given.model else "boot"
    save(name, {"machine": host, "latency_ms": given.latency, "rate_mib_s": given.rate, "runs": runs})
    RESULTS.mkdir(parents=True, exist_ok=True)
    shown = [
        next(run for run in runs if run["layout"] == run["read_ahead"] == on and not run["pause"])
        for on in (False, True)
    ]
    (RESULTS / f"{name}.svg").write_text(draw(shown))


if __name__ == "__main__":
    main()
