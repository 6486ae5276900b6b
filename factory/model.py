"""The model to bake, by $MODEL: a hub's id, a folder with a checkpoint, or a file of Ansible variables."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from factory import hub
from factory.console import ROOT, FactoryError, say
from factory.pin import pin_folder, pin_hub

DEFAULT_MODEL = ROOT / "ansible/models/whisper-nato.yml"
HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
EXAMPLE = "openai/whisper-large-v3-turbo"


def model_file() -> Path:
    """The file of variables that says what to bake: from $MODEL, pinned if needed, or the tests' small model.

    FactoryError if $MODEL names no model.
    """
    chosen = os.environ.get("MODEL", "")
    path = (ROOT / chosen).resolve() if chosen else DEFAULT_MODEL
    if path.is_file():
        return path
    if path.is_dir():
        return pin_folder(path)
    if path.suffix in (".yml", ".yaml") or not re.fullmatch(HUB_ID, chosen):
        raise FactoryError(
            f"MODEL={chosen}: neither a file of variables, nor a folder, nor the id of a model on the hub",
            f"Give one of these, such as MODEL={EXAMPLE}",
        )
    return pin_hub(chosen)


def read_variables(path: Path) -> dict[str, Any]:
    """Ansible's variables in a file; FactoryError if it has none."""
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise FactoryError(f"{path} is not YAML: {error}", f"Use the form of {DEFAULT_MODEL}") from error
    if not isinstance(values, dict):
        raise FactoryError(f"{path} has no variables", f"Use the form of {DEFAULT_MODEL}")
    return dict(values)


def check_model() -> None:
    """Require a pinned model that is a local folder or can be reached on the hub; FactoryError if not.

    It is called before an instance costs money; the role `model` checks again.
    """
    path = model_file()
    if path == DEFAULT_MODEL:
        say("MODEL is not set: the AMI gets the small model of the tests, which knows 36 words")
    values = read_variables(path)
    source, revision, sha256 = (
        str(values.get(f"model_{name}", "")) for name in ("source", "revision", "sha256")
    )
    if "{{" in source:  # a template of Ansible's
        return
    require(
        Path(source).is_absolute() or re.fullmatch(HUB_ID, source),
        f"{path} sets model_source to '{source}', neither an absolute path nor the id of a model on the hub",
        f"Set it to the folder of a checkpoint, or to owner/name, such as {EXAMPLE}",
    )
    require(
        re.fullmatch("[0-9a-f]{64}", sha256),
        f"{path} sets model_sha256 to '{sha256}'",
        "Set it to the SHA-256 of the checkpoint's model.safetensors: sha256sum prints it, the hub shows it",
    )
    if Path(source).is_absolute():
        require(
            Path(source).is_dir(),
            f"model_source is {source}, but there is no such folder",
            f"Correct model_source in {path}",
        )
        return
    require(
        re.fullmatch("[0-9a-f]{40}", revision),
        f"{path} sets model_revision to '{revision}', but a branch can move",
        f"Set it to a commit of {source}, 40 hexadecimal digits",
    )
    hub.check_commit(source, revision)


def require(met: object, cause: str, cure: str) -> None:
    """FactoryError with cause and cure unless the condition is met."""
    if not met:
        raise FactoryError(cause, cure)
