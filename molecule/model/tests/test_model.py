"""The models after the role `model`: one copied, one fetched from the stand-in hub; refusals in between."""

import json

import pytest
from testinfra.host import Host

MODELS = "/opt/transcribe/model"
NEEDED = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("name", ["whisper-nato", "from-the-hub"])
def test_the_model_is_whole(host: Host, name: str) -> None:
    files = set(host.check_output(f"ls -A {MODELS}/{name}").split())
    assert files >= NEEDED
    assert files & {"preprocessor_config.json", "processor_config.json"}
    assert host.check_output(f"find {MODELS} -not -user root -o -perm /022") == ""


def test_the_weights_are_those_asked_for(host: Host) -> None:
    for name in ("whisper-nato", "from-the-hub"):
        origin = json.loads(host.file(f"{MODELS}/{name}/origin.json").content_string)
        assert host.file(f"{MODELS}/{name}/model.safetensors").sha256sum == origin["sha256"]


def test_the_origin_is_recorded(host: Host) -> None:
    copied = json.loads(host.file(f"{MODELS}/whisper-nato/origin.json").content_string)
    fetched = json.loads(host.file(f"{MODELS}/from-the-hub/origin.json").content_string)
    assert (copied["id"], copied["revision"]) == (None, None)
    assert fetched["id"] == "preheat/from-the-hub"
    assert fetched["revision"] == "0123456789abcdef0123456789abcdef01234567"


def test_other_forms_of_the_weights_are_left_out(host: Host) -> None:
    assert not host.file(f"{MODELS}/from-the-hub/pytorch_model.bin").exists


def test_no_refused_model_and_no_download_is_left(host: Host) -> None:
    assert host.check_output(f"ls -A {MODELS}").split() == ["from-the-hub", "whisper-nato"]
    assert not host.file(f"{MODELS}/from-the-hub/.cache").exists
