"""make's MODEL=: a hub id, a folder or a file of variables; and the pins that are written."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from factory import hub, inputs, model, pin
from factory.console import ROOT, FactoryError

ID, COMMIT = "nobody/whisper-small", "0123456789abcdef0123456789abcdef01234567"
NATO = ROOT / "tests/fixtures/whisper-nato"
SHA256 = yaml.safe_load(model.DEFAULT_MODEL.read_text())["model_sha256"]
TOKEN = "hf_let_me_in"  # noqa: S105  of a server in this test

Serve = Callable[[Path], None]


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of pins, empty."""
    folder = tmp_path / "pins"
    folder.mkdir()
    monkeypatch.setattr(pin, "PINS", folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that a test may spoil."""
    copy = tmp_path / "whisper-small"
    copy.mkdir()
    for path in NATO.iterdir():
        (copy / path.name).symlink_to(path)
    return copy


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts the stand-in of molecule/model for the model ID in a folder; nobody has a token."""
    servers = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")

    def start(folder: Path) -> None:
        command = [sys.executable, str(ROOT / "molecule/model/hub.py"), str(port), ID, COMMIT, str(folder)]
        servers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        while servers[-1].poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.05)

    yield start
    for server in servers:
        server.kill()
        server.wait()


def chosen(monkeypatch: pytest.MonkeyPatch, value: str | Path) -> Path:
    """The model that MODEL=value chooses."""
    monkeypatch.setenv("MODEL", str(value))
    return model.model_file()


def refused(monkeypatch: pytest.MonkeyPatch, value: str | Path, *says: str) -> None:
    """MODEL=value is refused in one line of cause and one of cure, and nothing is written."""
    with pytest.raises(FactoryError) as error:
        chosen(monkeypatch, value)
    for words in says:
        assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 2
    assert list(pin.PINS.iterdir()) == []


def test_a_model_of_the_hub_is_pinned_once(
    serve: Serve,
    folder: Path,
    pins: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(folder)
    file = chosen(monkeypatch, ID)
    assert file == pins / "whisper-small.yml"
    assert list(pins.iterdir()) == [file]
    wanted = {"model_source": ID, "model_revision": COMMIT, "model_sha256": SHA256}
    assert yaml.safe_load(file.read_text()) == wanted
    said = capsys.readouterr().err
    assert ID in said and COMMIT in said and str(file) in said
    model.check_model()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert chosen(monkeypatch, ID) == file, "from then on the file is the pin"
    assert capsys.readouterr().err == ""


def test_the_environment_names_the_hub_and_the_token(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface_hub reads it on import, and make's filter of environment variables passes it on."""
    from huggingface_hub import constants  # noqa: PLC0415

    (folder / ".gated").write_text(TOKEN)
    serve(folder)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # set by tests that must not reach a hub
    program = "from factory import hub; print(hub.MIRROR, hub.token(), hub.checkpoint('{}').commit)"
    done = subprocess.run(
        [ROOT / "factory/environment.sh", sys.executable, "-c", program.format(ID)],
        env=os.environ | {"HF_ENDPOINT": constants.ENDPOINT, "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [constants.ENDPOINT, TOKEN, COMMIT], done.stderr


def test_a_folder_is_pinned_by_its_weights(folder: Path, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = chosen(monkeypatch, folder)
    assert yaml.safe_load(file.read_text()) == {"model_source": str(folder), "model_sha256": SHA256}
    assert chosen(monkeypatch, folder) == file
    (folder / pin.WEIGHTS).unlink()
    (folder / pin.WEIGHTS).write_bytes(b"others")
    with pytest.raises(FactoryError, match=f"(?s)has the SHA-256 .*delete {file}"):
        chosen(monkeypatch, folder)


def test_without_a_choice_it_is_the_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, "") == ROOT / "ansible/models/whisper-nato.yml"
    assert chosen(monkeypatch, "ansible/models/whisper-nato.yml") == ROOT / "ansible/models/whisper-nato.yml"


@pytest.mark.parametrize("value", ["no/such.yml", "/no/such/folder", "whisper", "a/b/c", "-x/y"])
def test_what_is_no_model(value: str, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(monkeypatch, value, f"MODEL={value}: neither", "openai/whisper-large-v3-turbo")


def test_a_model_that_there_is_not(
    serve: Serve, folder: Path, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(folder)
    refused(monkeypatch, "nobody/whisper-large", "has no model nobody/whisper-large", "HF_TOKEN")
    refused(monkeypatch, "nobody/a--b", "has no model nobody/a--b")


def test_a_hub_that_is_not_reached(serve: Serve, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been started."""
    refused(monkeypatch, ID, "cannot be reached", "HF_ENDPOINT")


def test_a_gated_model(serve: Serve, folder: Path, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".gated").write_text(TOKEN)
    serve(folder)
    refused(monkeypatch, ID, f"the model {ID} is gated", "Accept its terms", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert chosen(monkeypatch, ID).exists()


def replaced(folder: Path, name: str, text: str) -> None:
    """Give a file of the checkpoint other contents."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(text)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "another network": (
        lambda f: replaced(f, "config.json", json.dumps({"model_type": "bert"})),
        "is not a Whisper checkpoint in transformers' layout: its config.json says model_type bert",
    ),
    "another layout": (lambda f: (f / "config.json").unlink(), "it has no config.json with a model_type"),
    "a config that is not JSON": (lambda f: replaced(f, "config.json", "{"), "it has no config.json with"),
    "no safetensors": (lambda f: (f / pin.WEIGHTS).unlink(), "has no model.safetensors"),
    "sharded": (
        lambda f: (f / pin.WEIGHTS).rename(f / f"{pin.WEIGHTS}.index.json"),
        "has its weights in several files, not in one model.safetensors",
    ),
    "not whole": (lambda f: (f / "tokenizer.json").unlink(), "lacks tokenizer.json"),
    "no features": (
        lambda f: (f / "processor_config.json").unlink(),
        "lacks preprocessor_config.json or processor_config.json",
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_checkpoint_that_does_not_serve(
    how: str, serve: Serve, folder: Path, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, says = SPOILED[how]
    spoil(folder)
    refused(monkeypatch, folder, f"{folder} ", says)
    serve(folder)
    refused(monkeypatch, ID, f"{ID} on the hub ", says)


def test_another_model_of_the_same_name_takes_nobodys_pin(
    folder: Path, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = chosen(monkeypatch, folder)
    before = file.read_text()
    with pytest.raises(FactoryError, match=f"pins {folder}, not {ID}\n.*MODEL={file}"):
        chosen(monkeypatch, ID)
    assert file.read_text() == before


def test_a_name_that_serves_for_no_file(folder: Path, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = folder.rename(folder.with_name("my model"))
    refused(monkeypatch, odd, "cannot be called 'my model' on the image", "Rename its folder")


def test_the_pin_of_one_model_is_no_input_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each new pin would rebuild all images."""
    monkeypatch.setenv("MODEL", "")
    before = inputs.fingerprint()
    other = pin.PINS / "a-test.yml"
    other.write_text("model_source: /nowhere\n")
    try:
        assert inputs.fingerprint() == before
        monkeypatch.setenv("MODEL", str(other))
        assert inputs.fingerprint() != before
    finally:
        other.unlink()


def test_the_machine_fetches_from_the_callers_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mirror in ("", "https://mirror.example"):
        monkeypatch.setattr("factory.hub.MIRROR", mirror)
        inputs.variables({}, tmp_path / "facts.json")
        assert json.loads((tmp_path / "facts.json").read_text()).get("model_hub", "") == mirror


def test_a_hub_that_tells_no_digest(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance of weights that are not in Git LFS."""
    files = dict.fromkeys((path.name for path in NATO.iterdir()), "")
    told = hub.Checkpoint(COMMIT, {"model_type": "whisper"}, files)
    monkeypatch.setattr(hub, "checkpoint", lambda _model: told)
    refused(monkeypatch, ID, "gives no SHA-256 for model.safetensors", "model_revision")
