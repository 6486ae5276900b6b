"""Notes of what a run may have left on EC2: complete, by account, and deleted only after its removal."""

import json
from pathlib import Path
from typing import Any

import pytest

from factory import clean
from factory import workspace as workspaces
from factory.console import FactoryError
from factory.ec2 import builder, notes, retire
from factory.ec2.notes import Run
from tests.ami.calls import ACCOUNT
from tests.ami.cloud import ABROAD, HOME, Cloud, Refusal

LEFT = Run("preheat-0123456789ab", ACCOUNT, HOME, "")
FOREIGN = Run("preheat-ba9876543210", "999999999999", ABROAD, "")


@pytest.fixture
def build(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder build/ in which a run was killed, and credentials for the cloud."""
    for name, value in {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "SETTINGS": "",
        "REMOVE": "",
    }.items():
        monkeypatch.setenv(name, value)
    for module in (clean, workspaces):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(clean, "MOLECULE_IMAGE", "localhost/preheat-no-such-image")
    monkeypatch.setattr(builder, "PAUSE", 0.0)
    (tmp_path / "build/run/ami").mkdir(parents=True)
    return tmp_path / "build"


def launch(cloud: Cloud, run: Run) -> str:
    """The builder of a run; its instance's id."""
    made = cloud.client("ec2", run.region).run_instances(
        ImageId="ami-0deb1a00000000012",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "preheat:run", "Value": run.id}]},
        ],
    )
    instance: str = made["Instances"][0]["InstanceId"]
    return instance


def running(cloud: Cloud, region: str = HOME) -> list[str]:
    """The instances in a region that have not ended."""
    return builder.ids(builder.alive(cloud.client("ec2", region), []))


def test_clean_removes_a_builder_before_its_note(cloud: Cloud, build: Path) -> None:
    launch(cloud, LEFT)
    notes.write(build / "run/ami", LEFT)
    clean.clean()
    assert running(cloud) == []
    assert not build.exists()


def test_clean_keeps_all_while_it_cannot_remove_a_builder(cloud: Cloud, build: Path) -> None:
    launch(cloud, LEFT)
    note = notes.write(build / "run/ami", LEFT)
    cloud.before["ec2:TerminateInstances"] = lambda _: Refusal("RequestExpired")
    with pytest.raises(FactoryError, match="credentials have expired"):
        clean.clean()
    assert notes.read(note) == LEFT


def test_another_account_does_not_forget_a_builder(cloud: Cloud, build: Path) -> None:
    note = notes.write(build / "run/ami", FOREIGN)
    notes.write(build / "run/ami", LEFT)
    assert builder.remove_all_noted(build / "run/ami") == [FOREIGN]
    assert notes.all_in(build / "run/ami") == [note]
    with pytest.raises(FactoryError, match=f"{FOREIGN.id} in account 999999999999, {ABROAD}"):
        clean.clean()
    assert notes.read(note) == FOREIGN


ODD = {
    "empty": "",
    "cut short": '{"id": "preh',
    "a list": "[]",
    "of an older version": '{"id": "preheat-1", "region": "us-east-1", "unfinished_ami": ""}',
    "of other types": '{"id": "preheat-1", "account": 1, "region": "us-east-1", "unfinished_ami": ""}',
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_an_odd_note_is_told_and_kept(build: Path, text: str) -> None:
    note = build / "run/ami/run.json"
    note.write_text(text)
    with pytest.raises(FactoryError, match=r"run.json, the record of what .* may have left") as error:
        clean.clean()
    assert "make ami-clean" in str(error.value)
    assert note.read_text() == text


def test_a_note_is_whole_or_the_one_before(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = notes.write(build / "run/ami", LEFT)

    def full(_value: Any, file: Any, **_options: Any) -> None:
        file.write('{"id"')
        raise OSError("No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space"):
        notes.write(build / "run/ami", LEFT)
    assert notes.read(note) == LEFT
    assert notes.all_in(build / "run/ami") == [note]


def test_a_builder_that_does_not_end_is_told(
    cloud: Cloud, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = launch(cloud, LEFT)
    note = notes.write(build / "run/ami", LEFT)
    monkeypatch.setattr(builder, "ENDING_SECONDS", -1)
    with pytest.raises(FactoryError, match=f"{instance} has not terminated") as error:
        builder.remove_noted(note)
    assert f"--region {HOME} --instance-ids {instance}" in str(error.value)
    assert note.exists()


def test_builders_are_listed_wherever_they_are(
    cloud: Cloud, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in regions that the settings do not name; a region that a policy denies is reported."""
    away = launch(cloud, Run("preheat-1", ACCOUNT, "ap-southeast-2", ""))
    ended = launch(cloud, LEFT)
    cloud.client("ec2").terminate_instances(InstanceIds=[ended])
    cloud.before["ec2:DescribeInstances"] = lambda request: (
        Refusal("UnauthorizedOperation", status=403) if request.region == "eu-north-1" else None
    )
    retire.ami_clean()
    printed = capsys.readouterr()
    assert [line.split()[:2] for line in printed.out.splitlines()] == [["ap-southeast-2", away]]
    assert f"terminate-instances --region ap-southeast-2 --instance-ids {away}" in printed.err
    assert "skipped eu-north-1: these credentials have no access" in printed.err
    assert running(cloud, "ap-southeast-2") == [away], "it may be at work for another host"


def test_a_region_that_does_not_answer_hides_no_other(
    cloud: Cloud, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported, and an error at the end: instances there may be costing money."""
    away = launch(cloud, Run("preheat-1", ACCOUNT, "us-west-2", ""))
    cloud.before["ec2:DescribeInstances"] = lambda request: (
        Refusal("AuthFailure", status=401) if request.region == "ap-south-1" else None
    )
    with pytest.raises(FactoryError, match="could not list ap-south-1"):
        retire.ami_clean()
    printed = capsys.readouterr()
    assert away in printed.out and "ap-south-1 could not be listed" in printed.err
