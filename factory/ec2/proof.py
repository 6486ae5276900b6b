"""The proof of an AMI: before it is copied or named in a parameter, an instance of it must transcribe.

It is launched on the type of instance that it was built on, if there is capacity. Measured are the seconds
until ssh answers, of the first transcription, from a volume that has not been read yet, and of the next one;
then tests/image runs over ssh. The figures become tags of the AMI.
"""

import json
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from factory import console
from factory.console import LOGS, ROOT, FactoryError
from factory.ec2 import images
from factory.ec2.aws import client, explained
from factory.ec2.builder import noted
from factory.ec2.launch import Instance, Launch, keep_console, wait_for_login
from factory.ec2.preflight import Plan
from factory.ec2.publish import available
from factory.ec2.report import Report
from factory.ec2.settings import Settings
from factory.workspace import secrets

LOG = LOGS / "proof.log"
TESTS = [ROOT / "tests/image"]
MARK = "preheat:verified"  # the tag of an AMI that has passed
TRANSCRIBE = "transcribe --load state /opt/transcribe/sample.flac"


def prove(plan: Plan, settings: Settings, folder: Path, record: Path, report: Report) -> None:
    """Launch and test the plan's AMI, unless it has passed before; FactoryError if it fails.

    `folder` is for the run's note. `record` is the build's image.json, which is fetched from the instance if
    the AMI was built on another host.
    """
    with explained():
        ec2 = client("ec2", settings.region)
        image = available(ec2, plan.name)
    if MARK in images.tags(image):
        with report.step("proof", settings.region) as line:
            line.result = f"passed {images.tags(image)[MARK]}"
        return
    with (
        secrets() as scratch,
        noted(plan, settings.region, folder, building=False) as run,
    ):
        with explained():
            instance = Launch(ec2, run, image, settings, scratch).on_first(plan.candidates, report)
        instance.machine.console.unlink(missing_ok=True)  # of an earlier proof
        try:
            figures = tried(instance, record, report)
        except FactoryError as error:
            with suppress(ClientError, BotoCoreError):  # must not hide the first error
                keep_console(ec2, instance)
            raise failed(image["ImageId"], instance, settings, error) from error
        tags = {MARK: f"{datetime.now(UTC):%Y-%m-%d} on {instance.instance_type}"}
        tags |= {f"preheat:{name}": f"{seconds:.1f} s" for name, seconds in figures.items()}
        with explained():
            ec2.create_tags(
                Resources=[image["ImageId"], *images.snapshots(image)],
                Tags=images.as_tags(tags),
            )


def tried(instance: Instance, record: Path, report: Report) -> dict[str, float]:
    """Try an instance out; the seconds until ssh answered, of the first transcription and of the second."""
    figures = {}
    with report.step("ssh answers", instance.instance_type) as line:
        figures["launch-to-ssh"] = wait_for_login(instance)
        line.result = f"{figures['launch-to-ssh']:.1f} s after the launch"
    for name in ("first words", "words again"):
        with report.step(name, instance.instance_type) as line:
            heard = instance.machine.run(TRANSCRIBE).split()
            line.result = f"{len(heard)} of the sample"
        figures[name.replace(" ", "-")] = line.seconds
        expected = recorded(instance, record)["verification"]["text"].split()
        if heard != expected:
            raise FactoryError(
                f"its {name} are '{' '.join(heard)}', but were '{' '.join(expected)}' when it was baked",
                "Build it again",
            )
    with report.step("tests/image", instance.instance_type) as line:
        line.result = tested(instance, record)
    return figures


def recorded(instance: Instance, record: Path) -> dict[str, dict[str, str]]:
    """The contents of image.json, fetched from the instance if it is not here."""
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(instance.machine.run("cat /opt/transcribe/image.json"))
    said: dict[str, dict[str, str]] = json.loads(record.read_text())
    return said


def tested(instance: Instance, record: Path) -> str:
    """Run the image's tests on an instance; how many have passed, or a FactoryError that names the others."""
    options = [f"--machine={instance.machine.config}", f"--record={record}", "-p", "no:cacheprovider"]
    pytest = ["env", "--unset=PYTEST_ADDOPTS", sys.executable, "-m", "pytest", "--color=no"]
    console.run(*pytest, *options, *TESTS, log=LOG)
    passed = re.search(r"(\d+ passed.*) in ", LOG.read_text())
    return passed[1] if passed else "passed"


def failed(image: str, instance: Instance, settings: Settings, error: FactoryError) -> FactoryError:
    """The error for an AMI that has failed its proof, with what can be done about it."""
    log = instance.machine.console
    console_log = f"\n  Its console, as far as EC2 returns it, is in {log}" if log.exists() else ""
    return FactoryError(
        f"{image} has failed its test on {instance.instance_type}, so it is not published:"
        f" {error}{console_log}",
        "The AMI is kept: launch it to investigate, or run it again."
        f" To remove it: aws ec2 deregister-image --region {settings.region} --image-id {image}"
        " --delete-associated-snapshots",
    )
