"""The model that $MODEL names, checked before an instance is paid for; the role `model` does so again."""

import re
from pathlib import Path

import httpx2
from huggingface_hub import HfApi

from factory.console import FactoryError, say
from factory.inputs import DEFAULT_VARS, read_vars, vars_file

HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"


def check_model() -> None:
    """The model is a folder here or can be reached on the hub, and is pinned; FactoryError if not."""
    path = vars_file()
    if path == DEFAULT_VARS:
        say("MODEL is not set: the AMI gets the small model of the tests, which knows 36 words")
    values = read_vars(path)
    source, revision, sha256 = (
        str(values.get(f"model_{name}", "")) for name in ("source", "revision", "sha256")
    )
    if "{{" in source:  # only Ansible can tell
        return
    require(
        Path(source).is_absolute() or re.fullmatch(HUB_ID, source),
        f"{path} sets model_source to '{source}', neither an absolute path nor the id of a model on the hub",
        "Set it to the folder of a checkpoint, or to owner/name, such as openai/whisper-large-v3",
    )
    require(
        re.fullmatch("[0-9a-f]{64}", sha256),
        f"{path} sets model_sha256 to '{sha256}'",
        "Set it to the SHA-256 of the checkpoint's model.safetensors: sha256sum prints it, the hub shows it",
    )
    if Path(source).is_absolute():
        require(
            Path(source).is_dir(),
            f"model_source is {source}, and there is no such folder",
            f"Correct model_source in {path}",
        )
        return
    require(
        re.fullmatch("[0-9a-f]{40}", revision),
        f"{path} sets model_revision to '{revision}', and a branch moves",
        f"Set it to the commit of {source} that is wanted, 40 hexadecimal digits",
    )
    try:
        HfApi().model_info(source, revision=revision, timeout=30)
    except (httpx2.HTTPError, OSError) as error:
        raise FactoryError(
            f"the model {source} at {revision} is not to be had: {str(error).splitlines()[0]}",
            f"Check model_source and model_revision in {path}, and the way to the hub",
        ) from error


def require(met: object, cause: str, cure: str) -> None:
    """FactoryError with cause and cure unless the condition is met."""
    if not met:
        raise FactoryError(cause, cure)
