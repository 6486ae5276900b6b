"""Pins: a file of variables, with the SHA-256, for a model that MODEL= names by a hub id or a folder.

It is written to ansible/models/ once. From then on it determines the commit, and the hub is not asked again.
"""

import hashlib
import json
import re
from collections.abc import Set
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from factory import hub
from factory.console import ROOT, FactoryError, say

PINS = ROOT / "ansible/models"
LAYOUT: dict[str, Any] = yaml.safe_load((ROOT / "ansible/roles/model/vars/main.yml").read_text())
WEIGHTS = "model.safetensors"
SAVE = "save_pretrained(FOLDER, max_shard_size='100GB') of model and processor in transformers; MODEL=FOLDER"


def pin_hub(model: str) -> Path:
    """The file that pins a model of the hub; FactoryError if it cannot be fetched or used."""
    file = file_of(model)
    if file.exists():
        return file
    found = hub.checkpoint(model)
    check(f"{model} on the hub", found.files.keys(), found.config)
    if not re.fullmatch("[0-9a-f]{64}", found.files[WEIGHTS]):
        raise FactoryError(
            f"the hub gives no SHA-256 for {WEIGHTS} of {model}",
            f"Write it into a file like {PINS}/whisper-nato.yml, with model_source and model_revision",
        )
    write(file, model_source=model, model_revision=found.commit, model_sha256=found.files[WEIGHTS])
    return file


def pin_folder(folder: Path) -> Path:
    """The file that pins the checkpoint in a folder; FactoryError if it cannot be used, or has changed."""
    names = {path.name for path in folder.iterdir()}
    check(str(folder), names, config_of(folder))
    weights = folder / WEIGHTS
    status = weights.stat()
    sha256 = digest(weights, status.st_size, status.st_mtime_ns)
    file = file_of(str(folder))
    if not file.exists():
        write(file, model_source=str(folder), model_sha256=sha256)
    elif read_pin(file).get("model_sha256") != sha256:
        raise FactoryError(
            f"{weights} has the SHA-256 {sha256}, but {file} has another one",
            f"If you have changed the checkpoint, delete {file}: it will be written again",
        )
    return file


def file_of(source: str) -> Path:
    """The path of a model's pin; FactoryError if the name is unsuitable, or taken by another model."""
    name = Path(source).name
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise FactoryError(
            f"the model {source} cannot be called '{name}' on the image",
            "Rename its folder: letters, digits and ._- are allowed",
        )
    file = PINS / f"{name}.yml"
    if file.exists() and (other := read_pin(file).get("model_source")) != source:
        raise FactoryError(
            f"{file} already exists and pins {other}, not {source}",
            f"Use it, MODEL={file}, or rename it",
        )
    return file


def check(what: str, names: Set[str], config: dict[str, Any]) -> None:
    """Require a checkpoint with all the files that an image needs; FactoryError if not."""
    kind = config.get("model_type")
    if kind != "whisper":
        raise FactoryError(
            f"{what} is not a Whisper checkpoint in transformers' layout: "
            + (
                f"its config.json says model_type {kind}"
                if kind
                else "it has no config.json with a model_type"
            ),
            "Choose one that is, such as openai/whisper-large-v3-turbo",
        )
    if WEIGHTS not in names:
        shards = any(name.endswith(".safetensors.index.json") for name in names)
        raise FactoryError(
            f"{what} has its weights in several files, not in one {WEIGHTS}"
            if shards
            else f"{what} has no {WEIGHTS}",
            f"Save it as one: {SAVE}",
        )
    missing = [name for name in LAYOUT["__model_required"] if name not in names]
    if not names & set(LAYOUT["__model_extractors"]):
        missing.append(" or ".join(LAYOUT["__model_extractors"]))
    if missing:
        raise FactoryError(f"{what} lacks {', '.join(missing)}", f"Save it whole: {SAVE}")


def config_of(folder: Path) -> dict[str, Any]:
    """The contents of a folder's config.json; empty if it is missing or malformed."""
    try:
        values = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def read_pin(file: Path) -> dict[str, Any]:
    """The variables in a pin; empty if the file is malformed."""
    try:
        values = yaml.safe_load(file.read_text())
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


@cache
def digest(path: Path, _size: int, _changed: int) -> str:
    """A file's SHA-256, cached while its size and modification time stay the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(file: Path, **variables: str) -> None:
    """Write a pin atomically, and report it."""
    source = variables["model_source"]
    part = file.with_name(f".{file.name}.part")
    part.write_text(
        f"---\n# Pinned by MODEL={source}; commit it to build the same again, delete it to pin it again.\n"
        + yaml.safe_dump(variables, sort_keys=False, width=1000)
    )
    part.replace(file)
    at = f" at commit {variables['model_revision']}" if "model_revision" in variables else ""
    say(f"{source} is pinned{at}, sha256 {variables['model_sha256']}, in {file}")
