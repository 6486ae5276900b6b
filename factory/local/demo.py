"""`make demo`: boot the finished image and transcribe a recording on it, as its user would over ssh."""

import subprocess

from factory.console import ROOT, FactoryError, say
from factory.local.image import ARTIFACT, image
from factory.local.machine import booted
from factory.model import DEFAULT_MODEL, model_file

SAMPLE = ROOT / "tests/fixtures/samples/short.flac"


def demo() -> None:
    """Build the image if needed, boot it, transcribe the short sample on it, compare with its words."""
    image()
    say("boot the image on a temporary overlay")
    with booted(ARTIFACT.raw, "demo", keep=False) as machine:
        say("ssh admin@… transcribe --timings audio.flac")
        machine.upload(SAMPLE, "audio.flac")
        done = subprocess.run(
            [*machine.ssh(), "transcribe --load state --timings audio.flac"],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise FactoryError("transcribe failed on the machine", "Its messages are above")
    heard, said = done.stdout.split(), SAMPLE.with_suffix(".txt").read_text().split()
    print(" ".join(heard))
    if model_file() != DEFAULT_MODEL:  # another model may write numbers and names differently
        return
    if heard != said:
        raise FactoryError(f"wrong transcript of {SAMPLE.name}: {' '.join(said)}", "Run: make test-image")
    say("the transcript is correct")
