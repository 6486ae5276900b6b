"""Evaluates a policy as IAM does, as far as docs/*-policy.json need; raises for anything else.

The permissions that a call needs are in calls.py, those of the fleet in tests/fleet/permissions.py. The rules
are those in AWS's guide to IAM, "Policy evaluation logic" and "Condition operators": one Deny outweighs every
Allow; in a condition all operators and all keys must match, and one of several values; a key that the call
does not have does not match.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]
Statement = Mapping[str, Any]

ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
# The condition keys that calls.py and tests/fleet/test_roles.py set. Others are not modelled.
KEYS = re.compile(
    r"aws:(?:Resource|Request)Tag/.+|aws:CalledVia|ec2:CreateAction|kms:ViaService"
    r"|iam:(?:PassedToService|AWSServiceName)",
    re.IGNORECASE,
)
EQUALS = ("StringEquals", "ForAnyValue:StringEquals")  # the same for the single values that calls have here


class UnknownError(Exception):
    """The policy holds something that is not modelled here; it must be, before it can be judged."""


@dataclass(frozen=True)
class Question:
    """Whether an action on a resource (an ARN) is allowed, with the condition keys of the call."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{key}={value}" for key, value in self.context.items())
        return f"{self.action} on {self.resource} ({told or 'no condition keys'})"


def allows(policy: Policy, question: Question) -> bool:
    """Whether the policy alone allows it."""
    effects = {statement["Effect"] for statement in policy["Statement"] if applies(statement, question)}
    return effects == {"Allow"}


def applies(statement: Statement, question: Question) -> bool:
    """Whether a statement is about the question."""
    if unknown := statement.keys() - ELEMENTS:
        raise UnknownError(f"elements of a statement: {', '.join(sorted(unknown))}")
    if statement["Effect"] not in ("Allow", "Deny"):
        raise UnknownError(f"effect: {statement['Effect']}")
    return (
        any(like(pattern.lower(), question.action.lower()) for pattern in listed(statement["Action"]))
        and any(names(pattern, question.resource) for pattern in listed(statement["Resource"]))
        and all(
            holds(operator, key, listed(values), question.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def names(pattern: str, arn: str) -> bool:
    """Whether a Resource matches an ARN, part by part; the last part may contain colons."""
    if pattern == "*":
        return True
    parts, told = pattern.split(":", 5), arn.split(":", 5)
    return len(parts) == len(told) and all(map(like, parts, told))


def holds(operator: str, key: str, values: Iterable[str], context: Mapping[str, str]) -> bool:
    """Whether the call's value for a key matches one of `values`; key names are case-insensitive."""
    if operator not in (*EQUALS, "StringLike"):
        raise UnknownError(f"condition operator: {operator}")
    if not KEYS.fullmatch(key):
        raise UnknownError(f"condition key: {key}")
    if unknown := [value for value in values if "${" in value]:
        raise UnknownError(f"policy variable: {unknown[0]}")
    there = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if there is None:
        return False
    return any(there == value if operator in EQUALS else like(value, there) for value in values)


def like(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern in which * stands for any characters and ? for one."""
    wildcards = {"*": ".*", "?": "."}
    expression = "".join(wildcards.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def listed(value: str | list[str]) -> list[str]:
    """The values as a list: a policy may have a single value instead."""
    return [value] if isinstance(value, str) else value
