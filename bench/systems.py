"""The systems that start.py and speed.py compare: how each is run, and what it reports."""

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import ROOT, Facts, TrialError, call, measure
from bench.models import Models

TRANSCRIBE = ROOT / "runtime" / "transcribe.py"
OURS = "preheat"


@dataclass(frozen=True)
class System:
    """A way to transcribe one recording."""

    name: str
    command: list[str]  # arguments of the interpreter
    files: list[Path]  # the model's files that it reads

    def run(self, threads: int) -> Facts:
        """Run a fresh process; its timings, and `text`, `windows`, `tokens`. Raises harness.TrialError."""
        output, facts = measure(self.command, threads)
        if self.name.startswith(OURS):
            # Peers that search for speech do so in their model time.
            searched = [phase for phase in facts["phases"] if phase["name"] == "find speech"]
            facts["decode_s"] += sum(phase["end_s"] - phase["start_s"] for phase in searched)
            document = json.loads(output)
            segments = document["segments"]
            facts["windows"] = len({segment["seek"] for segment in segments})
            facts["tokens"] = sum(len(segment["tokens"]) for segment in segments)
            output = document["text"]
        return facts | {"text": " ".join(output.split())}


@dataclass(frozen=True)
class Job:
    """The task that is the same for all systems."""

    models: Models
    model: str  # its name in `models`
    audio: Path
    device: str
    batch: int = 1  # windows at a time, for peers where the user chooses it

    def system(self, name: str) -> System:
        """A system by its name: a peer, or ours with loader and options, as in "preheat state sequential"."""
        own, _, words = name.partition(" ")
        if own != OURS:
            return self.peer(name)
        load, *options = words.split()
        return self.ours(name, load, [f"--{option}" for option in options])

    def ours(self, name: str, load: str, options: list[str]) -> System:
        """Our `transcribe`."""
        files = [self.models.state(self.model)]  # completes its --home as well
        if load == "standard":
            files = [self.models.checkpoint(self.model)]
        command = [str(TRANSCRIBE), "--home", str(self.models.home), "--model", self.model, "--load", load]
        command += ["--device", self.device, "--language", "en"]
        command += ["--quiet", "--timings=json", "-f", "json", *options, str(self.audio)]
        return System(name, command, files)

    def peer(self, name: str) -> System:
        """Another program, in the precision of the models if it supports that, else in float32."""
        dtype = self.models.dtype if self.models.dtype in precisions(name, self.device) else "float32"
        checkpoint = form = self.models.checkpoint(self.model)
        if name == "pickled":
            form = self.models.other("pickled", self.model)
        elif name.startswith("faster-whisper"):
            form = Models(self.models.folder, dtype).other("ctranslate2", self.model)
        command = ["-m", "bench.peers", name, str(self.audio)]
        command += ["--model", str(form), "--checkpoint", str(checkpoint)]
        command += ["--device", self.device, "--dtype", dtype, "--batch", str(self.batch)]
        return System(name, command, [form])


def possible(job: Job, wanted: Sequence[str]) -> list[System]:
    """The systems that can be prepared; reports why others cannot."""
    found = []
    for name in wanted:
        try:
            found.append(job.system(name))
        except (TrialError, RuntimeError) as failure:  # CTranslate2 raises the latter for a GPU it cannot use
            print(f"bench: {name} cannot be prepared and is left out: {failure}", file=sys.stderr)
    return found


def has_option(option: str) -> bool:
    """Whether `transcribe` knows an option."""
    return option in call([str(TRANSCRIBE), "--help"]).stdout


def precisions(name: str, device: str) -> Sequence[str]:
    """The types that a peer can compute in on a device."""
    if name.startswith("faster-whisper"):
        ctranslate2: Any = importlib.import_module("ctranslate2")  # it has no types
        return sorted(ctranslate2.get_supported_compute_types(device))
    if name == "openai":  # it has fp16=True, but not on the CPU
        return ("float16",) if device == "cuda" else ()
    return ("float32", "float16", "bfloat16")
