"""The proof: an AMI that fails its test on an instance is kept but not published; the instance is removed."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from factory.console import ROOT, FactoryError
from factory.ec2 import ami, launch, proof
from factory.ec2.preflight import Plan
from factory.inputs import VERSION
from factory.local.image import ARTIFACT
from factory.ssh import Machine
from tests.ami.calls import ACCOUNT
from tests.ami.cloud import ABROAD, BUILDER, HOME, Cloud, Refusal, Request
from tests.ami.command import CHOICES, proved

NAME = f"proof-{VERSION}"
SOURCE = "ami-0deb1a00000000012"
PUBLISHED = {"ec2:CopyImage", "ssm:PutParameter", "ec2:EnableImageDeprecation"}
# Quick replacements for the proof's transcription and tests (test_ami.py runs the real ones).
WORDS = """python3 -c 'import json
print(json.load(open("/opt/transcribe/image.json"))["verification"]["text"])'"""
OPTIONS = """
def pytest_addoption(parser):
    parser.addoption("--machine")
    parser.addoption("--record")
"""
OF_THE_DISK = {
    "test_prefetch.py::test_few_blocks_hold_what_is_listed",
    "test_system.py::test_resolver_is_enabled",
}
OF_AN_INSTANCE = ("test_prefetch.py", "test_service.py", "test_system.py", "test_transcribe.py")
PASSES = "def test_it_passes():\n    pass\n"
FAILS = "def test_it_fails():\n    assert 'the disk' == 'full'\n"
INTERRUPTS = """
import os, signal, time

def test_it_is_interrupted():
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
"""


@dataclass
class Made:
    """A newly built AMI, and `make ami` in this process, which finds it."""

    cloud: Cloud
    folder: Path
    id: str
    choices: dict[str, Any]

    def run(self) -> None:
        """Run `make ami` from the proof on, as the builder, whose access key alone the policy applies to."""
        (self.folder / "ami.pkrvars.json").write_text(json.dumps(self.choices))
        self.cloud.requests.clear()
        try:
            ami.ami()
        finally:
            callers = {request.access_key for request in self.cloud.requests}  # EC2's stand-ins use others
            assert BUILDER in callers

    def tests(self, text: str) -> None:
        """Set the test file to run in place of tests/image."""
        (self.folder / "test_instance.py").write_text(text)

    def done(self) -> set[str]:
        """The actions of the last run."""
        return {request.action for request in self.cloud.requests}

    def tags(self) -> dict[str, str]:
        return self.cloud.tags(HOME, self.id)


@pytest.fixture(scope="module")
def machine(server: Cloud) -> Iterator[tuple[Machine, Callable[[Request], None]]]:
    """The instance's stand-in, for all tests here, with the hook that lets a key pair in."""
    with proved(server) as machine:
        hook = server.after["ec2:RunInstances"]
        yield machine, hook  # type: ignore[misc]


@pytest.fixture
def made(
    cloud: Cloud,
    machine: tuple[Machine, Callable[[Request], None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Made]:
    """The AMI as Packer leaves it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", BUILDER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("SETTINGS", str(tmp_path / "ami.pkrvars.json"))
    ec2 = cloud.client("ec2")
    image: str = ec2.copy_image(Name=NAME, SourceImageId=SOURCE, SourceRegion=HOME)["ImageId"]
    tags = {"preheat:inputs": "0123", "preheat:instance-type": "g6.xlarge", "preheat:run": "preheat-1"}
    (disk,) = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
    ec2.create_tags(
        Resources=[image, disk["Ebs"]["SnapshotId"]],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
    candidates = [(kind, subnet) for kind in ("g5.xlarge", "g6.xlarge") for subnet in subnets[:2]]
    plan = Plan(NAME, ACCOUNT, "0123", {"ImageId": SOURCE}, candidates)
    monkeypatch.setattr(ami, "check", lambda _: plan)
    monkeypatch.setattr(ami, "RECORDS", tmp_path)
    ami.file_of(plan, "image").write_text(ARTIFACT.record.read_text())
    monkeypatch.setattr(launch, "address", lambda _, public: ("127.0.0.1", machine[0].port))
    monkeypatch.setattr(proof, "TRANSCRIBE", WORDS)
    monkeypatch.setattr(proof, "TESTS", [tmp_path / "test_instance.py"])
    (tmp_path / "conftest.py").write_text(OPTIONS)
    cloud.after["ec2:RunInstances"] = machine[1]
    made = Made(cloud, tmp_path, image, CHOICES | {"verify": True})
    made.tests(PASSES)
    yield made
    instances = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert {instance["State"]["Name"] for instance in instances} <= {"terminated"}
    assert cloud.leftovers() == []
    assert not list((ROOT / "build/run/ami").glob("*.json"))


def test_what_pytest_is_told_elsewhere_is_not_for_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setattr(proof, "TESTS", [tmp_path / "test_instance.py"])
    monkeypatch.setattr(proof, "LOG", tmp_path / "log")
    (tmp_path / "conftest.py").write_text(OPTIONS)
    (tmp_path / "test_instance.py").write_text(PASSES)
    machine = Machine("ami", 22, "admin", tmp_path / "key", tmp_path / "config", tmp_path / "console")
    assert proof.tested(launch.Instance("i-1", "g6.xlarge", 0.0, machine), tmp_path) == "1 passed"


def refused(made: Made, *says: str) -> None:
    """The AMI fails: it is kept but not published; the message has the reason and how to remove the AMI."""
    with pytest.raises(FactoryError) as error:
        made.run()
    for words in (*says, f"{made.id} has failed its test on g6.xlarge", f"--image-id {made.id}"):
        assert words in str(error.value)
    assert not made.done() & PUBLISHED
    assert "preheat:verified" not in made.tags()
    assert [image["ImageId"] for image in made.cloud.own_amis()] == [made.id]
    assert made.cloud.own_amis(ABROAD) == []


def test_an_ami_that_does_its_work_is_published(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.run()
    assert made.done() >= PUBLISHED
    assert made.tags()["preheat:verified"].endswith(" on g6.xlarge")
    (launched,) = made.cloud.calls("ec2:RunInstances")
    assert launched.parameters["ImageId"] == made.id
    assert launched.parameters["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert "InstanceMarketOptions.MarketType" not in launched.parameters
    assert "1 passed" in capsys.readouterr().out

    made.run()
    assert "ec2:RunInstances" not in made.done(), "it is proved once"
    assert "passed" in capsys.readouterr().out


def test_without_verify_it_is_published_at_once(made: Made) -> None:
    made.choices["verify"] = False
    made.run()
    assert "ec2:RunInstances" not in made.done()
    assert made.done() >= PUBLISHED


def test_other_words_than_when_it_was_baked(made: Made) -> None:
    record = json.loads(ARTIFACT.record.read_text())
    record["verification"]["text"] = "alfa bravo"
    (made.folder / f"{NAME}.image.json").write_text(json.dumps(record))
    refused(made, "its first words are 'zero", "'alfa bravo' when it was baked")


def test_a_failing_test_of_the_image_is_named_and_the_next_run_tries_again(made: Made) -> None:
    made.tests(FAILS)
    refused(made, "test_it_fails", f"The whole log is {proof.LOG}")
    made.tests(PASSES)
    (made.folder / f"{NAME}.image.json").unlink()  # as on another host
    made.run()
    assert made.done() >= PUBLISHED
    assert made.tags()["preheat:torch"], "image.json came from the instance"


def test_an_instance_that_does_not_answer(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "address", lambda _, public: ("127.0.0.1", 1))
    monkeypatch.setattr(launch, "BOOT_SECONDS", 1)
    refused(made, "did not answer ssh within 1 s", str(launch.CONSOLE))
    assert "Linux version" in launch.CONSOLE.read_text()


def test_an_instance_that_ec2_ends_is_not_the_amis_fault(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance because the instance may not use the volume's KMS key."""

    def end(_request: Request) -> None:
        ec2 = made.cloud.client("ec2")
        found = ec2.describe_instances()["Reservations"]
        ec2.terminate_instances(InstanceIds=[i["InstanceId"] for r in found for i in r["Instances"]])

    made.cloud.after["ec2:RunInstances"] = end
    monkeypatch.setattr(launch, "address", lambda _, public: ("", 22))
    with pytest.raises(FactoryError, match=r"is terminated: .*\n.*continue with the test"):
        made.run()
    assert not made.done() & PUBLISHED


def no_capacity(kind: str) -> Callable[[Request], Refusal | None]:
    """EC2 without capacity for an instance type."""
    return lambda request: (
        Refusal("InsufficientInstanceCapacity") if request.parameters["InstanceType"] == kind else None
    )


def test_without_capacity_another_place_will_do(made: Made) -> None:
    """It is not an error either if EC2 does not know a new resource at once."""
    unknown, full = iter(["InvalidKeyPair.NotFound", "InvalidAMIID.NotFound"]), no_capacity("g6.xlarge")

    def answer(request: Request) -> Refusal | str | None:
        name = next(unknown, None)
        return Refusal(name) if name else full(request)

    made.cloud.before["ec2:RunInstances"] = answer
    made.run()
    tried = [request.parameters["InstanceType"] for request in made.cloud.calls("ec2:RunInstances")]
    assert tried == ["g6.xlarge"] * 4 + ["g5.xlarge"], "what it was built on is tried first"
    assert made.tags()["preheat:verified"].endswith(" on g5.xlarge")


def test_without_any_capacity_nobody_gets_it_yet(made: Made) -> None:
    made.cloud.before["ec2:RunInstances"] = lambda _: Refusal("InsufficientInstanceCapacity")
    with pytest.raises(FactoryError, match=r"no capacity to test ami-.*\n.*verify = false"):
        made.run()
    assert not made.done() & PUBLISHED


def test_where_it_is_built_on_spot_it_is_proved_on_spot(made: Made) -> None:
    made.choices["spot"] = True
    made.run()
    (launched,) = made.cloud.calls("ec2:RunInstances")
    assert launched.parameters["InstanceMarketOptions.MarketType"] == "spot"


@pytest.mark.parametrize("stage", ["ec2:CreateKeyPair", "ec2:RunInstances", "ec2:DescribeInstances", "tests"])
def test_an_interruption_ends_the_instance_and_keeps_the_ami(made: Made, stage: str) -> None:
    """Ctrl-C; its note on this host names no AMI to be removed."""
    notes: list[dict[str, str]] = []

    def interrupt(_request: Request) -> None:
        del made.cloud.after[stage]
        notes.extend(json.loads(note.read_text()) for note in (ROOT / "build/run/ami").glob("*.json"))
        os.kill(os.getpid(), signal.SIGINT)

    if stage == "tests":
        made.tests(INTERRUPTS)
    else:
        made.cloud.after[stage] = interrupt
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert not made.done() & PUBLISHED
    assert [image["ImageId"] for image in made.cloud.own_amis()] == [made.id]
    assert [note["unfinished_ami"] for note in notes] == ([] if stage == "tests" else [""])


def test_of_the_images_tests_only_those_of_the_disk_are_left_out() -> None:
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "--machine=none", "--record=none"]
    listed = subprocess.check_output(
        [sys.executable, "-m", "pytest", *options, ROOT / "tests/image"],
        env=os.environ | {"PYTEST_ADDOPTS": ""}, text=True,  # which may ask for another list
    ).splitlines()  # fmt: skip
    tests = {line.rpartition("tests/image/")[2].partition("[")[0] for line in listed if "::" in line}
    assert {name.partition("::")[0] for name in tests} == set(OF_AN_INSTANCE)
    for path in OF_AN_INSTANCE:
        named = re.findall(r"^def (test_\w+)", (ROOT / "tests/image" / path).read_text(), re.MULTILINE)
        assert {f"{path}::{name}" for name in named} - tests <= OF_THE_DISK
