"""The speed of transcribing a long recording: this project and its alternatives.

    .venv/bin/python -m bench.speed [--model turbo] [--minutes 10] [--runs 5]

transcribes the fixture's short recording, repeated (speech without a long pause), with each system in turn,
in fresh processes. `--model` is a shape with random weights that yield 100 tokens in each window (shapes.py),
or the folder of any checkpoint: then the text is real, and word error rates are printed. Writes every run to
build/bench/speed.json.

RTFx is seconds of audio per second of model time: from samples to text, without loading, including voice
activity detection and the first window's extra cost. (Only ours and faster-whisper-batched detect speech;
ours does so while the model loads, but the time is counted all the same.) The wall time is from the start of
the process to the written text. All systems are greedy, with the language given and with timestamps. The
number of windows differs: it is lower where silence is cut out, and higher for the pipeline, whose chunks of
30 s advance by 20 s. The table has the numbers of windows and of tokens that the decoder generated.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import soundfile

from bench.harness import (
    RESULTS,
    ROOT,
    SAMPLES,
    Facts,
    TrialError,
    add_options,
    describe,
    machine,
    median,
    save,
    suitable_dtype,
    table,
    warm,
)
from bench.models import Models
from bench.systems import Job, System, has_option, possible

TOKENS = 100  # in a window of a model with random weights
BASE = "transformers"  # the system that ratios refer to
SYSTEMS = [
    "preheat state",
    "preheat state sequential",
    BASE,
    "pipeline",
    "faster-whisper",
    "faster-whisper-batched",
    "openai",
]
OPENAI_TOKENS = 51865  # with fewer, openai/whisper and CTranslate2 take a model for an English-only one
COUNTS = ("windows", "tokens", "tokens/s")
HEAD = ("system", "precision", *COUNTS, "model time", "RTFx", "wall", f"to {BASE}", "WER")


def recording(minutes: float, folder: Path) -> tuple[Path, str]:
    """A wav of about `minutes` minutes, the short recording repeated, and its text."""
    audio, rate = soundfile.read(SAMPLES / "short.flac", dtype="int16")
    copies = max(1, round(minutes * 60 * rate / len(audio)))
    path = folder / f"short-{copies}.wav"
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.tile(audio, copies), rate)
    return path, " ".join([(SAMPLES / "short.txt").read_text().strip()] * copies)


def suited(checkpoint: Path) -> list[str]:
    """The systems that can run this checkpoint."""
    found = [name for name in SYSTEMS if "sequential" not in name or has_option("--sequential")]
    if json.loads((checkpoint / "config.json").read_text())["vocab_size"] < OPENAI_TOKENS:
        found = [name for name in found if "whisper" not in name and name != "openai"]
    return found


def compare(compared: list[System], runs: int, threads: int) -> list[Facts]:
    """Run all systems in turn; returns all rounds but the first. A system that fails is not run again."""
    counted = []
    failed: set[str] = set()
    for number in range(runs + 1):
        for system in compared:
            if system.name in failed:
                continue
            warm(system.files)
            try:
                facts = system.run(threads)
            except TrialError as failure:
                failed.add(system.name)
                print(f"bench: {system.name} failed and is left out: {failure}", file=sys.stderr)
                continue
            print(
                f"bench: run {number}: {system.name} {facts['decode_s']:.1f} s for {facts['audio_s']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            if number:
                counted.append({"system": system.name, "run": number} | facts)
    return counted


def by_system(runs: list[Facts]) -> dict[str, list[Facts]]:
    """The runs of each system."""
    found: dict[str, list[Facts]] = {}
    for run in runs:
        found.setdefault(run["system"], []).append(run)
    return found


def rows(runs: list[Facts], reference: str | None) -> list[list[str]]:
    """The rows of the table. Without a reference there is no word error rate."""
    import jiwer  # noqa: PLC0415  slow to import, and rarely needed

    lines = []
    every = by_system(runs)
    base = median(every[BASE], "decode_s") if BASE in every else None
    for system, mine in every.items():
        seconds, first = median(mine, "decode_s"), mine[0]
        rate = f"{100 * jiwer.wer(reference, first['text']):.1f} %" if reference else ""
        ratio = f"{base / seconds:.2f}" if base else ""
        line = [system, first["dtype"], str(first["windows"]), str(first["tokens"])]
        line += [f"{first['tokens'] / seconds:.0f}", f"{seconds:.2f} s"]
        line += [f"{first['audio_s'] / seconds:.1f}", f"{median(mine, 'total_s'):.2f} s", ratio, rate]
        lines.append(line)
    return lines


def sayings(runs: list[Facts]) -> str:
    """Which systems gave the same text, and its length."""
    texts: dict[str, list[str]] = {}
    for system, mine in by_system(runs).items():
        for text in {run["text"] for run in mine}:
            texts.setdefault(text, []).append(system)
    return "\n".join(
        f"{len(text.split())} words, {text[:40]!r} …: {', '.join(said)}" for text, said in texts.items()
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed on a long recording.")
    add_options(parser, SYSTEMS)
    add = parser.add_argument
    add("--model", default="turbo", help="a shape, or a checkpoint's folder (default %(default)s)")
    add("--minutes", type=float, help="of audio, about (default: 10 on the CPU, 60 on a GPU)")
    add("--batch", type=int, help="of peers that take one (default: 8 on the CPU, 32 on a GPU)")
    arguments = parser.parse_args()
    gpu = arguments.device == "cuda"
    models = Models(arguments.scratch.resolve(), arguments.dtype or suitable_dtype(arguments.device))
    own = Path(arguments.model).is_dir()
    model = models.adopt(Path(arguments.model)) if own else f"{arguments.model}-{TOKENS}"
    audio, said = recording(arguments.minutes or (60 if gpu else 10), RESULTS)
    job = Job(models, model, audio, arguments.device, arguments.batch or (32 if gpu else 8))
    compared = possible(job, [name for name in suited(models.checkpoint(model)) if name in arguments.only])
    about = machine(models.folder)
    runs = compare(compared, arguments.runs, arguments.threads)
    save("speed", {"machine": about, "options": vars(arguments), "runs": runs})
    print(describe(about))
    print(
        f"{arguments.device}, {arguments.threads} threads, peers' batches of {job.batch}; {model}, greedy; "
        f"{soundfile.info(audio).duration:.0f} s of audio; page cache warm; median of {arguments.runs}"
    )
    print(table(HEAD, rows(runs, said if own else None), left=2))
    print(sayings(runs))
    print(f"wrote {(RESULTS / 'speed.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
