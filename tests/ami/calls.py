"""The permissions that AWS checks for a call: which actions on which resources, with which tags.

By the Service Authorization Reference, with the tags at the time of the call. A call that creates something
with tags also needs ec2:CreateTags, with the condition key ec2:CreateAction. Some calls imply other actions.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.ami.iam import Question, UnknownError

ACCOUNT = "123456789012"  # moto's
FREE = {"sts:GetCallerIdentity"}  # needs no permission

# What a call creates; it may also name existing resources. The caller names key pairs and the like.
MAKES: dict[str, tuple[str, ...]] = {
    "ec2:CopyImage": ("image", "snapshot"),
    "ec2:CreateFleet": ("fleet",),
    "ec2:CreateImage": ("image", "snapshot"),
    "ec2:CreateLaunchTemplate": ("launch-template",),
    "ec2:CreateSecurityGroup": ("security-group",),
    "ec2:RunInstances": ("instance", "network-interface", "volume"),
}
# Calls that change existing resources, or create what the caller names.
CHANGES = {
    *("ec2:AuthorizeSecurityGroupIngress", "ec2:CreateKeyPair", "ec2:CreateTags", "ec2:DeleteKeyPair"),
    *("ec2:DeleteLaunchTemplate", "ec2:DeleteSecurityGroup", "ec2:DeleteSnapshot", "ec2:DeleteVolume"),
    *("ec2:DeregisterImage", "ec2:EnableImageDeprecation", "ec2:GetConsoleOutput"),
    *("ec2:ModifyImageAttribute", "ec2:StopInstances", "ec2:TerminateInstances"),
}
KINDS = {
    "ami": "image",
    "i": "instance",
    "lt": "launch-template",
    "sg": "security-group",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
}
ID = re.compile(rf"({'|'.join(KINDS)})-[0-9a-f]+")
NOT_NAMED = re.compile(r"(?:.+\.)?(?:Filter|Tag|TagSpecification)\.\d")  # ids in there are values
NAMED = re.compile(r"(KeyName|LaunchTemplateName)$")

Tags = Callable[[str, str], Mapping[str, str]]  # (region, id) → current tags


def questions(action: str, region: str, parameters: Mapping[str, Any], tags: Tags) -> Iterator[Question]:
    """Every permission that the call needs. Raises UnknownError for calls that are not modelled here."""
    service, _, name = action.partition(":")
    if action in FREE:
        return
    if service == "ec2":
        yield from of_ec2(action, region, parameters, tags)
    elif service == "ssm" and name in ("GetParameter", "PutParameter"):
        path = parameters["Name"].removeprefix("/")
        yield Question(action, f"arn:aws:ssm:{region}:{ACCOUNT}:parameter/{path}")
    elif action == "servicequotas:GetServiceQuota":
        quota = f"{parameters['ServiceCode']}/{parameters['QuotaCode']}"
        yield Question(action, f"arn:aws:servicequotas:{region}:{ACCOUNT}:{quota}")
    else:
        raise UnknownError(f"call: {action}")


def of_ec2(action: str, region: str, parameters: Mapping[str, Any], tags: Tags) -> Iterator[Question]:
    """The questions about a call of EC2."""
    if action.startswith("ec2:Describe"):
        yield Question(action, "*")
        return
    if action not in MAKES and action not in CHANGES:
        raise UnknownError(f"call: {action}")
    given = {kind: asked_tags(parameters, kind) for kind in kinds_to_tag(parameters)}
    added = plain_tags(parameters) if action == "ec2:CreateTags" else {}
    for arn, there in existing(region, parameters, tags):
        yield Question(action, arn, context("Resource", there) | context("Request", added))
    for kind in MAKES.get(action, ()):
        yield Question(action, arn_of(region, kind, "new"), context("Request", given.get(kind, {})))
    creating = {"ec2:CreateAction": action.removeprefix("ec2:")}
    for kind, wanted in given.items():
        yield Question("ec2:CreateTags", arn_of(region, kind, "new"), creating | context("Request", wanted))
    if action == "ec2:CreateFleet":  # it launches by a template, with tags on what it launches
        for kind in MAKES["ec2:RunInstances"]:
            yield Question("ec2:RunInstances", arn_of(region, kind, "new"))
            launching = {"ec2:CreateAction": "RunInstances"}
            yield Question("ec2:CreateTags", arn_of(region, kind, "new"), launching)
    if profile := next((v for k, v in parameters.items() if re.search(r"IamInstanceProfile\.Name$", k)), ""):
        passed = {"iam:PassedToService": "ec2.amazonaws.com"}
        yield Question("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{profile}", passed)


def existing(
    region: str, parameters: Mapping[str, Any], tags: Tags
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The existing resources that the call names, with their tags."""
    for key, value in parameters.items():
        if NOT_NAMED.match(key):
            continue
        if match := ID.fullmatch(str(value)):
            where = parameters.get("SourceRegion", region) if key == "SourceImageId" else region
            yield arn_of(where, KINDS[match[1]], value), tags(where, value)
        elif match := NAMED.search(key):
            kind = {"KeyName": "key-pair", "LaunchTemplateName": "launch-template"}[match[1]]
            yield arn_of(region, kind, value), {}


def arn_of(region: str, kind: str, name: str) -> str:
    """The ARN of a thing of EC2: images and snapshots belong to no account there."""
    account = "" if kind in ("image", "snapshot") else ACCOUNT
    return f"arn:aws:ec2:{region}:{account}:{kind}/{name}"


def context(whose: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of the resource or of the request as condition keys."""
    return {f"aws:{whose}Tag/{key}": value for key, value in tags.items()}


def kinds_to_tag(parameters: Mapping[str, Any]) -> list[str]:
    """The kinds of things that a call wants tags on."""
    return [
        value
        for key, value in parameters.items()
        if re.fullmatch(r"TagSpecification\.\d+\.ResourceType", key)
    ]


def asked_tags(parameters: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The tags that a call wants on what it makes of a kind."""
    for key, value in parameters.items():
        if key.startswith("TagSpecification.") and key.endswith(".ResourceType") and value == kind:
            prefix = key.removesuffix("ResourceType")
            return plain_tags(
                {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
            )
    return {}


def plain_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Tags as a form has them: Tag.1.Key, Tag.1.Value, Tag.2.Key …"""
    numbers = [match[1] for key in parameters if (match := re.fullmatch(r"Tag\.(\d+)\.Key", key))]
    return {parameters[f"Tag.{n}.Key"]: parameters.get(f"Tag.{n}.Value", "") for n in numbers}
