"""The settings of a fleet: what is read, and what is refused before AWS is asked."""

import re
from pathlib import Path

import pytest

from factory.console import FactoryError
from factory.ec2.fleetsettings import EXAMPLE, FleetSettings, read_settings
from factory.ec2.template import parameters
from preheat.fleet.choices import Choices, chosen
from preheat.formats import FORMATS
from preheat.model import languages


def read(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> FleetSettings:
    """The settings of a file with this text."""
    (folder / "my.yml").write_text(text)
    monkeypatch.setenv("SETTINGS", str(folder / "my.yml"))
    return read_settings()


def test_the_defaults_are_the_template_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SETTINGS", raising=False)
    bare = read_settings()
    assert (bare.region, bare.name, bare.tags, bare.hourly_price) == ("us-east-1", "preheat", {}, None)
    assert bare.parameters.keys() == parameters().keys()
    assert bare.parameters["MaxInstances"] == "2" and bare.parameters["Subnets"] == ""
    assert read("", tmp_path, monkeypatch).parameters == bare.parameters


def test_the_example_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTINGS", str(EXAMPLE))
    settings = read_settings()
    assert (settings.region, settings.tags) == ("eu-west-1", {"team": "speech"})
    assert settings.parameters["InstanceTypes"] == "g6.xlarge,g5.xlarge,g6.2xlarge,g5.2xlarge"
    assert settings.parameters["Prompt"] == "Guardian, Kubernetes, Dr O'Brien"


def test_yaml_s_types_become_cloudformation_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "OnDemand: yes\nMaxInstances: 7\nSubnets: [subnet-1, subnet-2]\nFormats: txt,json\n"
    text += "hourly_price: 1\ntags: {cost center: 12}\n"
    settings = read(text, tmp_path, monkeypatch)
    chosen = settings.parameters
    assert (chosen["OnDemand"], chosen["MaxInstances"], chosen["Formats"]) == ("true", "7", "txt,json")
    assert settings.listed("Subnets") == ["subnet-1", "subnet-2"] and settings.listed("SecurityGroups") == []
    assert (settings.hourly_price, settings.tags) == (1, {"cost center": "12"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("MaxInstance: 3", "sets MaxInstance, which is no setting of a fleet\n  Did you mean MaxInstances?"),
        ("max_instances: 3", "Did you mean MaxInstances?"),
        ("zzz: 3", "The settings are region, name, tags, hourly_price, AmiParameter"),
        ("MaxInstances: 0", 'sets MaxInstances to "0"\n  It must be a whole number from 1 to 1000'),
        ("MaxInstances: 1001", "from 1 to 1000"),
        ("MaxInstances: 1.5", "It must be a whole number"),
        ("MaxInstances: many", "It must be a whole number"),
        ("RecordingsPerInstance: 0", "It must be a whole number of at least 1"),
        ("MaxInstances: {a: 1}", "Write a text, a number, true or false, or a list of texts"),
        ("Subnets: [1]", "or a list of texts"),
        ("Language: null", "Write a text"),
        ("Language: engish", "It must be one of af, am"),
        ("Language: no", 'sets Language to "false"'),  # YAML's no: quotes make it Norwegian
        ("Task: transcript", "It must be one of transcribe, translate"),
        ("Formats: txt;json", "It must be formats separated by commas, of txt, srt, vtt, tsv, json, all"),
        ("Formats: text", "It must be formats separated by commas"),
        ("Formats: 'txt,'", "It must be formats separated by commas"),
        ("OnDemand: maybe", "It must be one of true, false"),
        ("LogDays: 31", "It must be one of 1, 3, 5"),
        ("Prompt: 'say \"hi\"'", "It must not hold quotes"),
        ("Prompt: '$(reboot)'", "It must not hold quotes"),
        ("OutputPrefix: transcripts", "must end with a slash"),
        ("InputBucket: My_Bucket", "must be a bucket's name"),
        ("InstanceTypes: []", "one to six instance types"),
        ("InstanceTypes: [a.b, a.b, a.b, a.b, a.b, a.b, a.b]", "one to six instance types"),
        ("SecurityGroups: default", "must be ids of security groups"),
        ("KmsKey: mine", "must be the ARN of a key"),
        ("AlarmTopic: mine", "must match ^(arn:"),
        ("region: Ireland", "Write a region's code"),
        ("name: my fleet", "Use up to 32 letters"),
        ("name: on", "sets name to true\n  Use up to 32 letters"),
        ("name:", "sets name to null"),
        ("region:", "sets region to null"),
        ("name: 1st", "a letter first"),
        (f"name: {'x' * 33}", "Use up to 32 letters"),
        ("tags: [speech]", "such as team: speech"),
        ("hourly_price: cheap", "such as 0.35"),
        ("hourly_price: -1", "such as 0.35"),
        ("hourly_price: yes", "such as 0.35"),
        ("- region", "holds no settings"),
        ("region: [", "is not YAML"),
    ],
)
def test_what_cannot_be_is_refused(
    text: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(FactoryError) as error:
        read(text, tmp_path, monkeypatch)
    assert says in str(error.value)
    assert str(tmp_path / "my.yml") in str(error.value)


def test_the_worker_takes_every_value_that_is_not_refused() -> None:
    """Or each instance would fail as it starts, and the next one is started for the recordings that wait."""
    known = parameters()
    assert set(known["Language"]["AllowedValues"]) == {"", *languages.NAMES}
    for task in known["Task"]["AllowedValues"]:
        assert chosen({"task": task}, Choices()).options.task == task
    formats = re.compile(known["Formats"]["AllowedPattern"])
    for name in ("", "all", *FORMATS, ",".join(FORMATS)):
        assert formats.fullmatch(name), name
        assert chosen({"formats": name}, Choices())
    for name in ("text", "txt,", ",txt", "txt,,srt", "txt, srt", "TXT"):
        assert not formats.fullmatch(name), name


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SETTINGS", str(tmp_path / "none.yml"))
    with pytest.raises(FactoryError, match=r"none\.yml cannot be read: No such file"):
        read_settings()
