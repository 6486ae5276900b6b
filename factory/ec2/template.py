"""deploy/fleet.yml, the fleet's CloudFormation template: its text and its parameters."""

import re
from functools import cache
from textwrap import indent
from typing import Any

import yaml

from factory.console import ROOT

TEMPLATE = ROOT / "deploy/fleet.yml"
WAKE = ROOT / "deploy/wake.py"
CODE = re.compile(r"(?<=ZipFile: \|\n)(?:(?: {10}.*)?\n)+")


class Loader(yaml.SafeLoader):
    """Reads a template, whose intrinsic functions are tags such as !Ref."""


def intrinsic(loader: Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    """A tag as the long form of its function: !Ref x is {"Ref": "x"}, !Sub x is {"Fn::Sub": "x"}."""
    value: Any
    if isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", intrinsic)


@cache
def template() -> dict[str, Any]:
    """The template as CloudFormation reads it."""
    parsed: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)  # noqa: S506 # a safe loader with tags
    return parsed


def parameters() -> dict[str, dict[str, Any]]:
    """The template's parameters, in order: name → Type, Description, Default and limits."""
    found: dict[str, dict[str, Any]] = template()["Parameters"]
    return found


def with_wake(text: str) -> str:
    """The template's text with deploy/wake.py as the code of its function."""
    code = indent(WAKE.read_text(), " " * 10) + "\n"
    return CODE.sub(lambda _: code, text, count=1)
