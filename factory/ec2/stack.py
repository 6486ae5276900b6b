"""A CloudFormation stack: change sets, waiting with progress, and why one has failed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from factory.console import FactoryError, say
from factory.ec2.aws import PAUSE, Client
from factory.ec2.table import table

MARK = "preheat:"  # what the description of a fleet's template begins with; an empty stack has none yet
MISSING = "does not exist"
UNCHANGED = ("didn't contain changes", "No updates are to be performed")
CHANGE_SET = "make-fleet"
# How the stack is left when something has failed, and what to do about it.
STUCK = {
    "CREATE_FAILED": "Run: make fleet-remove",
    "DELETE_FAILED": "Run: make fleet-remove",
    "ROLLBACK_FAILED": "Run: make fleet-remove",
    "UPDATE_ROLLBACK_FAILED": (
        "Run: aws cloudformation continue-update-rollback --region {region} --stack-name {name}; make fleet"
    ),
}
CANCELLED = "cancelled"  # the reason of all that CloudFormation stops because of the first failure
DENIED = ("not authorized", "AccessDenied", "UnauthorizedOperation")


@dataclass
class Stack:
    """A stack of a region by its name, or the absence of one."""

    cloudformation: Client
    name: str
    region: str
    id: str = ""
    status: str = ""  # CloudFormation's; empty if there is no such stack
    outputs: dict[str, str] = field(default_factory=dict)
    change_set: str = ""  # its id, once proposed
    seen: set[str] = field(default_factory=set)  # events that have been reported, or are of earlier changes

    def look(self) -> str:
        """Ask CloudFormation for the stack; its status. FactoryError if it is not a fleet's."""
        try:
            asked = self.cloudformation.describe_stacks(StackName=self.id or self.name)
        except ClientError as error:
            if MISSING not in str(error):
                raise
            self.id = self.status = ""
            return self.status
        (found,) = asked["Stacks"]
        described = found.get("Description", "")
        own = self.id or found["StackStatus"] == "REVIEW_IN_PROGRESS" or described.startswith(MARK)
        if not own:
            raise FactoryError(
                f"{self.region} has a stack {self.name} that is no fleet: {described or 'not described'}",
                "Set another name in your settings, such as name: preheat-speech",
            )
        self.id, self.status = found["StackId"], found["StackStatus"]
        self.outputs = {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])}
        return self.status

    def ready(self) -> bool:
        """Make the stack fit for a change set; whether there is one to be updated.

        Waits for a change that is under way, and deletes what a failed or interrupted first run has left, in
        which nothing exists. FactoryError if it is stuck.
        """
        self.look()
        if self.changing:
            say(f"the stack {self.name} is being changed ({self.status}); waiting for that first")
            self.follow(ended=True)
        if self.status in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"):
            say(
                f"the stack {self.name} is an empty one of a failed run ({self.status}), and is deleted first"
            )
            self.delete()
        if cure := STUCK.get(self.status):
            raise self.failure(cure.format(name=self.name, region=self.region))
        return bool(self.status) and self.status != "DELETE_COMPLETE"

    def propose(
        self, body: str, parameters: dict[str, str], tags: dict[str, str]
    ) -> list[dict[str, Any]] | None:
        """Make the change set that leads to this template; the resources it would change, None if all is so.

        No resource changes where only outputs or tags do.
        """
        there = self.ready()
        made = self.cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"{CHANGE_SET}-{time.time_ns()}",
            ChangeSetType="UPDATE" if there else "CREATE",
            TemplateBody=body,
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )
        self.id, self.change_set = made["StackId"], made["Id"]
        while True:
            asked = self.cloudformation.describe_change_set(ChangeSetName=self.change_set, StackName=self.id)
            if asked["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            time.sleep(PAUSE)
        if asked["Status"] != "FAILED":
            return [change["ResourceChange"] for change in asked["Changes"]]
        reason = str(asked.get("StatusReason", ""))
        self.discard()
        if any(text in reason for text in UNCHANGED):
            return None
        raise FactoryError(f"CloudFormation refuses the change: {reason}", cure_of(reason))

    def discard(self) -> None:
        """Delete the change set, and a stack that exists for its sake alone."""
        self.cloudformation.delete_change_set(ChangeSetName=self.change_set, StackName=self.id)
        if self.look() == "REVIEW_IN_PROGRESS":
            self.delete()

    def execute(self) -> None:
        """Carry out the change set, and wait for the end. Raises FactoryError with the first failure."""
        self.seen = {event["EventId"] for event in self.events()}
        self.cloudformation.execute_change_set(ChangeSetName=self.change_set, StackName=self.id)
        self.follow()
        if self.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise self.failure()

    def delete(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Delete the stack and wait for the end; `meanwhile` is called before and again and again.

        Raises FactoryError with the first failure.
        """
        self.seen = {event["EventId"] for event in self.events()}
        meanwhile()
        self.cloudformation.delete_stack(StackName=self.id)
        self.follow(meanwhile)
        if self.status not in ("", "DELETE_COMPLETE"):
            raise self.failure()

    def follow(self, meanwhile: Callable[[], None] = lambda: None, *, ended: bool = False) -> None:
        """Report each resource that is done, until the stack is; `meanwhile` is called before each look.

        The status alone may still be that of before; it counts after an event on the stack as a whole, unless
        that has `ended` already.
        """
        while True:
            meanwhile()
            self.look()
            for event in self.events():
                if event["EventId"] not in self.seen and not event["ResourceStatus"].endswith("_IN_PROGRESS"):
                    ended = ended or event.get("PhysicalResourceId") == self.id
                    said = f": {event['ResourceStatusReason']}" if event.get("ResourceStatusReason") else ""
                    say(f"{event['ResourceStatus'].lower()} {event['LogicalResourceId']}{said}")
                self.seen.add(event["EventId"])
            if not self.status or (ended and not self.changing):
                return
            time.sleep(PAUSE)

    @property
    def changing(self) -> bool:
        """Whether CloudFormation is at work on the stack."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    def events(self) -> list[dict[str, Any]]:
        """The stack's events, oldest first; none if it is gone."""
        if not self.id:
            return []
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.id)
        return [event for page in pages for event in page["StackEvents"]][::-1]

    def reason(self) -> str:
        """The first failure of the last change: which resource, and what AWS said."""
        events = self.events()
        began = [n for n, event in enumerate(events) if event.get("ResourceStatusReason") == "User Initiated"]
        for event in events[began[-1] if began else 0 :]:
            said = str(event.get("ResourceStatusReason", ""))
            if event["ResourceStatus"].endswith("_FAILED") and CANCELLED not in said:
                return f"{event['LogicalResourceId']} ({event['ResourceType']}): {said}"
        return "CloudFormation tells no reason"

    def failure(self, cure: str = "") -> FactoryError:
        """The error for the status that the last change has left."""
        reason = self.reason()
        said = f"the stack {self.name} is in {self.status}: {reason}"
        return FactoryError(said, cure or cure_of(reason))

    def resources(self) -> dict[str, str]:
        """The ids of what the stack consists of, by the names in the template."""
        found = self.cloudformation.describe_stack_resources(StackName=self.id)["StackResources"]
        named = (item for item in found if item.get("LogicalResourceId"))
        return {item["LogicalResourceId"]: item.get("PhysicalResourceId", "") for item in named}


def cure_of(reason: str) -> str:
    """What to do about a reason that CloudFormation gives."""
    if any(text in reason for text in DENIED):
        return (
            "Attach the policy docs/fleet-policy.json to your credentials (docs/fleet.md), and run it again"
        )
    if "already exists" in reason:
        return "Set another name in your settings, such as name: preheat-speech, and run make fleet again"
    return "Do what it says, and run it again: it goes on from where the stack is"


def shown(changes: list[dict[str, Any]]) -> str:
    """What a change set changes, as a table."""
    rows = [
        (
            change["Action"].lower(),
            change["LogicalResourceId"],
            change["ResourceType"],
            "replaced" if change.get("Replacement") == "True" else "",
        )
        for change in changes
    ]
    return table(("change", "resource", "type", ""), rows)
