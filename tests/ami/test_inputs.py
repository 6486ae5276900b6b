"""The inputs of an image: every file that affects its contents, and the commit, whoever owns the checkout."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from factory import inputs
from factory.console import ROOT, FactoryError


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and a sample, as MODEL names them."""
    for name in ("config.json", "merges.txt", "model.safetensors", "pytorch_model.bin", "sample.wav"):
        (tmp_path / name).write_text(name)
    variables = {"model_source": str(tmp_path), "bake_sample": str(tmp_path / "sample.wav")}
    (tmp_path / "vars.yml").write_text(yaml.safe_dump(variables))
    monkeypatch.setenv("MODEL", str(tmp_path / "vars.yml"))
    return tmp_path


@pytest.mark.parametrize("name", ["config.json", "merges.txt", "sample.wav", "vars.yml"])
def test_another_file_of_the_model_makes_another_image(model: Path, name: str) -> None:
    before = inputs.fingerprint()
    with (model / name).open("a") as file:
        file.write("# changed\n")
    assert inputs.fingerprint() != before


def test_what_does_not_reach_the_image_changes_nothing(model: Path) -> None:
    """The weights have a digest of their own among the variables; the role refuses any others."""
    before = inputs.fingerprint()
    for name in ("pytorch_model.bin", "model.safetensors"):
        (model / name).write_text("changed")
    assert inputs.fingerprint() == before


def test_variables_that_are_none_are_told(model: Path) -> None:
    (model / "vars.yml").write_text("- a")
    with pytest.raises(FactoryError, match="has no variables"):
        inputs.fingerprint()


def test_the_commit_of_a_checkout_that_is_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a CI container, where git by default refuses a checkout owned by another user."""
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, *name, "commit", "--quiet", "--allow-empty", "--message=a"], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 65534, 65534)
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    for variable in ("SUDO_UID", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_COUNT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a person's own exceptions are
    assert inputs.git_commit() == commit


def test_the_workflow_runs_what_ci_runs_with_actions_that_cannot_change() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    workflow = yaml.safe_load(text)
    runs = {name: [step.get("run") for step in job["steps"]] for name, job in workflow["jobs"].items()}
    assert set(runs) == {"lint", "fast", "full"}
    assert "make lint" in runs["lint"]
    assert "make test-fast" in runs["fast"]
    assert ".ci/run" in runs["full"]
    assert workflow[True]["schedule"], "once a week; YAML takes `on` for true"
    used = re.findall(r"uses: *(\S+)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
