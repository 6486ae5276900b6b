"""The model hub, through its own client, which honours HF_ENDPOINT, HF_TOKEN and proxy variables."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from factory.console import FactoryError

SECONDS = 30  # timeout of a request
MIRROR = os.environ.get("HF_ENDPOINT", "")  # a mirror of the hub, which the machine uses as well


@dataclass(frozen=True)
class Checkpoint:
    """A model as it is on the hub: commit, config.json, each file's SHA-256 (empty if the hub has none)."""

    commit: str
    config: dict[str, Any]
    files: dict[str, str]


def checkpoint(model: str) -> Checkpoint:
    """The newest commit of a model; FactoryError if it cannot be fetched."""
    with explained(model):
        info = HfApi().model_info(model, files_metadata=True, timeout=SECONDS)
        files = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or ()}
        commit = str(info.sha)
        # Downloaded, not only listed: anyone may list the files of a gated model, but few may download them.
        config = read_json(model, commit, "config.json") if "config.json" in files else {}
    return Checkpoint(commit, config, files)


def read_json(model: str, commit: str, name: str) -> dict[str, Any]:
    """One of a model's files as a JSON object; empty if it is not one."""
    address = hf_hub_url(model, name, revision=commit)
    answer = get_session().get(address, headers=build_hf_headers(), timeout=SECONDS)
    hf_raise_for_status(answer)
    try:
        values = answer.json()
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def check_commit(model: str, commit: str) -> None:
    """Require that the hub has this commit of a model; FactoryError if not, or if it cannot be reached."""
    with explained(f"{model} at {commit}"):
        HfApi().model_info(model, revision=commit, timeout=SECONDS)


def token() -> str:
    """The caller's token for the hub, from HF_TOKEN or a login; empty if there is none."""
    return get_token() or ""


@contextmanager
def explained(model: str) -> Iterator[None]:
    """Turn the client's errors into a FactoryError."""
    hub = constants.ENDPOINT
    try:
        yield
    except GatedRepoError as error:
        raise FactoryError(
            f"the model {model} is gated: its owner must grant access on {hub}",
            f"Accept its terms on {hub}, and set HF_TOKEN to a token of that account",
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        answer = getattr(error, "response", None)
        if answer is not None and answer.status_code not in (401, 404):  # 401 can mean: not found
            raise FactoryError(
                f"cannot download the model {model} from {hub}: {str(error).splitlines()[0]}",
                "Check HF_TOKEN, or try again later",
            ) from error
        raise FactoryError(
            f"{hub} has no model {model} that these credentials can access",
            "Check the id and the commit; for a private model set HF_TOKEN",
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        raise FactoryError(
            f"cannot download the model {model}: {hub} cannot be reached: {str(error).splitlines()[0]}",
            "Check HF_ENDPOINT and the network: https_proxy, SSL_CERT_FILE",
        ) from error
