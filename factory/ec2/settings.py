"""What the user chooses for an AMI: packer/variables.pkr.hcl's defaults, and the file named by $SETTINGS."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import hcl2
from lark.exceptions import UnexpectedInput

from factory.console import ROOT, FactoryError

VARIABLES = ROOT / "packer/variables.pkr.hcl"
AUTOMATIC = re.compile(r"[.]auto[.]pkrvars[.](hcl|json)$")  # files of values that Packer reads automatically


@dataclass(frozen=True)
class Settings:
    """The choices that factory/ acts on itself. Packer reads and checks all of them, from the same file."""

    path: Path | None
    region: str
    instance_types: list[str]
    spot: bool
    builder_hours: int
    verify: bool
    subnet_ids: list[str]
    ssh_cidrs: list[str]
    ssh_interface: str
    iam_instance_profile: str
    user_data_file: str
    source_ami: str
    source_ami_name: str
    source_ami_owner: str
    volume_size: int
    volume_iops: int
    volume_throughput: int
    encrypted: bool
    kms_key_id: str
    copy_regions: dict[str, str]
    share_with: list[str]
    name_prefix: str
    tags: dict[str, str]
    ssm_parameter: str
    deprecate_after: int

    @property
    def keys(self) -> dict[str, str]:
        """Every region of the AMI, that of the build first, with the KMS key to use there."""
        return {self.region: self.kms_key_id, **self.copy_regions}


def read_settings() -> Settings:
    """The settings from $SETTINGS, an HCL or JSON file of values for Packer's variables, over the defaults.

    Raises FactoryError if the file is missing or malformed, or sets an unknown variable or one of the wrong
    type.
    """
    values = {name: variable["default"] for name, variable in variables().items()}
    refuse_other_ways(values)
    chosen = os.environ.get("SETTINGS", "")
    path = (ROOT / chosen).resolve() if chosen else None
    if path:
        given = read_hcl(path)
        if unknown := sorted(given.keys() - values.keys()):
            raise FactoryError(
                f"{path} sets {', '.join(unknown)}, which are not variables of an AMI",
                f"The variables are {', '.join(values)}",
            )
        for name, value in given.items():
            if type(value) is not type(values[name]):
                raise FactoryError(
                    f"{path} sets {name} to {json.dumps(value)}, which has the wrong type",
                    f"The default, {json.dumps(values[name])}, shows the right type",
                )
        values |= given
    settings = Settings(path, **{f.name: values[f.name] for f in fields(Settings) if f.name != "path"})
    if settings.ssh_interface == "private_ip" and not settings.ssh_cidrs:
        raise FactoryError(
            "ssh_interface is private_ip but ssh_cidrs is empty: your public address is not the one"
            " that the builder sees",
            'Set ssh_cidrs to the network that you reach the subnet from, such as ["10.0.0.0/16"]',
        )
    if settings.region in settings.copy_regions:
        raise FactoryError(
            f"copy_regions names {settings.region}, where the AMI is built",
            "Leave it out of copy_regions; its key is kms_key_id",
        )
    return settings


def refuse_other_ways(names: Iterable[str]) -> None:
    """FactoryError if a variable is set in a way that only Packer reads: it would differ from our value."""
    by_environment = [f"PKR_VAR_{name}" for name in names if f"PKR_VAR_{name}" in os.environ]
    files = [str(path) for path in VARIABLES.parent.iterdir() if AUTOMATIC.search(path.name)]
    if found := by_environment + sorted(files):
        raise FactoryError(
            f"{', '.join(found)}: Packer reads this automatically, but the rest of make ami does not",
            "Move its values into a settings file: make ami SETTINGS=my.pkrvars.hcl",
        )


def variables() -> dict[str, dict[str, Any]]:
    """The variables of packer/variables.pkr.hcl, in order: name → default, description, type."""
    blocks: list[dict[str, dict[str, Any]]] = read_hcl(VARIABLES)["variable"]
    return {name: body for block in blocks for name, body in block.items()}


def read_hcl(path: Path) -> dict[str, Any]:
    """An HCL file (JSON if its name ends in .json) as a dictionary; FactoryError if it cannot be parsed."""
    options = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True)
    try:
        text = path.read_text()
        if path.suffix == ".json":
            parsed: dict[str, Any] = json.loads(text)
        else:
            parsed = hcl2.loads(text, serialization_options=options)
        if not isinstance(parsed, dict):
            raise json.JSONDecodeError("not an object", text, 0)
    except OSError as error:
        raise FactoryError(
            f"{path} cannot be read: {error.strerror}",
            "Give a settings file, such as packer/example.pkrvars.hcl: make ami SETTINGS=my.pkrvars.hcl",
        ) from error
    except (UnexpectedInput, json.JSONDecodeError) as error:
        line = getattr(error, "line", None) or getattr(error, "lineno", "?")
        raise FactoryError(
            f"{path}, line {line}: this is not a Packer variables file",
            'It has lines such as region = "eu-west-1", as packer/example.pkrvars.hcl shows',
        ) from error
    return parsed
