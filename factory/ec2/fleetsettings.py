"""What the user chooses for a fleet: parameters of deploy/fleet.yml, in the YAML file named by $SETTINGS."""

import json
import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from factory.console import ROOT, FactoryError
from factory.ec2.template import parameters

EXAMPLE = ROOT / "deploy/example.yml"
# Settings that are no parameters of the template, with their meaning; docs/fleet.md has them, too.
OWN = {
    "region": "Region of the fleet.",
    "name": "Name of the fleet: of its stack, its Auto Scaling group and its dashboard.",
    "tags": "Tags for all that the fleet consists of.",
    "hourly_price": "What an instance costs in an hour, for the estimate of make fleet-status.",
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")


@dataclass(frozen=True)
class FleetSettings:
    """The settings, checked. A parameter of the template that is not set has its default."""

    path: Path | None = None
    region: str = "us-east-1"
    name: str = "preheat"
    tags: dict[str, str] = field(default_factory=dict)
    hourly_price: float | None = None  # in whatever currency the user thinks
    parameters: dict[str, str] = field(default_factory=dict)  # "" for those that make fleet finds out

    def listed(self, name: str) -> list[str]:
        """The values of a parameter that is a list."""
        return [value for value in self.parameters[name].split(",") if value]


def read_settings() -> FleetSettings:
    """The settings of $SETTINGS over the defaults.

    Raises FactoryError if the file is missing or no YAML, sets something unknown, or has a value that the
    template does not allow.
    """
    chosen = os.environ.get("SETTINGS", "")
    path = (ROOT / chosen).resolve() if chosen else None
    given = read(path) if path else {}
    known = parameters()
    for key in given:
        if key not in OWN and key not in known:
            near = get_close_matches(key, [*OWN, *known], n=1, cutoff=0.5)
            raise FactoryError(
                f"{path} sets {key}, which is no setting of a fleet",
                f"Did you mean {near[0]}?" if near else f"The settings are {', '.join([*OWN, *known])}",
            )
    values = {name: str(body.get("Default", "")) for name, body in known.items()}
    values |= {key: plain(path, key, value) for key, value in given.items() if key in known}
    for key in given.keys() & known.keys():
        check_value(path, key, values[key], known[key])
    return FleetSettings(path=path, parameters=values, **own(path, given))


def read(path: Path) -> dict[str, Any]:
    """The file as a dictionary; FactoryError if it is none."""
    cure = f"It has lines such as region: eu-west-1, as {EXAMPLE} shows"
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise FactoryError(f"{path} cannot be read: {error.strerror}", f"Name a file as {EXAMPLE}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise FactoryError(f"{path} is not YAML: {told}", cure) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise FactoryError(f"{path} holds no settings", cure)
    return {str(key): value for key, value in values.items()}


def own(path: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that are no parameters, checked; FactoryError for one of another type or form."""
    found = {key: given[key] for key in OWN if key in given}
    tags, price = found.get("tags", {}), found.get("hourly_price", 1)
    if not isinstance(tags, dict) or not all(isinstance(value, str | int) for value in tags.values()):
        raise wrong(path, "tags", tags, "Write each as a line, such as team: speech")
    if isinstance(price, bool) or not isinstance(price, int | float) or price <= 0:
        raise wrong(path, "hourly_price", price, "Write a number, such as 0.35")
    name, region = found.get("name", "preheat"), found.get("region", "us-east-1")
    if not isinstance(name, str) or not NAME.fullmatch(name):  # YAML takes on for true
        raise wrong(path, "name", name, "Use up to 32 letters, digits and hyphens, a letter first")
    if not isinstance(region, str) or not REGION.fullmatch(region):
        raise wrong(path, "region", region, "Write a region's code, such as eu-west-1")
    return found | {"tags": {str(key): str(value) for key, value in tags.items()}}


def plain(path: Path | None, name: str, value: Any) -> str:
    """A value in the form that CloudFormation takes; a list is joined by commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    raise wrong(path, name, value, "Write a text, a number, true or false, or a list of texts")


def check_value(path: Path | None, name: str, value: str, body: dict[str, Any]) -> None:
    """Require a value that the template allows, before CloudFormation is asked. Raises FactoryError."""
    if "AllowedValues" in body and value not in map(str, body["AllowedValues"]):
        allowed = ", ".join(map(str, body["AllowedValues"]))
        raise wrong(path, name, value, f"It must be one of {allowed}")
    if "AllowedPattern" in body and not re.fullmatch(body["AllowedPattern"], value):
        told = body.get("ConstraintDescription", f"must match {body['AllowedPattern']}")
        raise wrong(path, name, value, f"It {told}")
    if body["Type"] == "Number":
        low, high = body.get("MinValue", 0), body.get("MaxValue", float("inf"))
        if not re.fullmatch("[0-9]+", value) or not low <= int(value) <= high:
            told = f"from {low} to {high}" if "MaxValue" in body else f"of at least {low}"
            raise wrong(path, name, value, f"It must be a whole number {told}")


def wrong(path: Path | None, name: str, value: Any, cure: str) -> FactoryError:
    """The error for a value that cannot be."""
    return FactoryError(f"{path} sets {name} to {json.dumps(value, default=str, ensure_ascii=False)}", cure)
