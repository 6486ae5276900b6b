"""The state file, its proof and image.json after the role `bake`."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
WORDS = (PROJECT / "tests/fixtures/samples/short.txt").read_text().split()
HOME = "/opt/transcribe"
STATE = f"{HOME}/state/whisper-nato.safetensors"
PYTHON = f"{HOME}/venv/bin/python"


@pytest.fixture
def record(host: Host) -> dict[str, Any]:
    """image.json."""
    read: dict[str, Any] = json.loads(host.file(f"{HOME}/image.json").content_string)
    return read


def test_the_account_cannot_log_in_and_owns_only_the_state(host: Host) -> None:
    account = host.user("transcribe")
    assert account.shell == "/usr/sbin/nologin"
    assert account.uid < 1000
    assert host.file(STATE).user == "transcribe"
    assert host.file(f"{HOME}/state").user == "transcribe"
    assert host.file(f"{HOME}/image.json").user == "root"


def test_the_state_file_is_whole(host: Host, record: dict[str, Any]) -> None:
    report = json.loads(host.check_output(f"{PYTHON} {HOME}/runtime/state.py verify {STATE}"))
    assert report["dtype"] in ("float32", "bfloat16")  # whichever is faster on this processor
    assert record["state"] == {
        "path": STATE, "sha256": report["sha256"], "dtype": report["dtype"], "bytes": report["bytes"]
    }  # fmt: skip
    assert host.file(STATE).sha256sum == record["state"]["sha256"]


def test_the_record_says_what_was_heard_and_how_fast(record: dict[str, Any]) -> None:
    verification = record["verification"]
    assert verification["text"].split() == WORDS
    for strategy in ("state", "standard"):
        assert verification[strategy]["strategy"] == strategy
        assert verification[strategy]["load_s"] > 0
    assert record["bake"]["seconds"] > 0


def test_the_record_says_what_the_image_is_made_of(host: Host, record: dict[str, Any]) -> None:
    for name, code in (
        ("python", "import platform; print(platform.python_version())"),
        ("torch", "import torch; print(torch.__version__)"),
        ("cuda", "import torch; print(torch.version.cuda)"),
        ("transformers", "import transformers; print(transformers.__version__)"),
    ):
        assert record[name] == host.check_output(f"{PYTHON} -c '{code}'")
    assert host.file(f"/boot/vmlinuz-{record['kernel']}").exists
    assert record["accelerator"] == "cpu"
    assert record["driver"] is None
    assert record["gpu"] is None
    assert record["licences"] is None  # the role venv has not run here
    assert record["model"]["name"] == "whisper-nato"
    assert record["model"]["sha256"] == host.file(f"{HOME}/model/whisper-nato/model.safetensors").sha256sum
    assert record["version"] == (PROJECT / "runtime/VERSION").read_text().strip()
    assert set(record) >= {"git_commit", "source_image", "built_at", "inputs"}


def test_the_sample_is_there_for_a_first_try(host: Host) -> None:
    heard = host.check_output(f"setpriv --reuid=nobody --clear-groups transcribe {HOME}/sample.flac")
    assert heard.split() == WORDS
