"""`make fleet` and `fleet-remove` against moto, with the permissions of their policy."""

import json

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from moto.backends import get_backend
from moto.cloudformation.models import Event

from factory.ec2 import stack
from factory.ec2.template import TEMPLATE, template
from tests.ami.calls import ACCOUNT, FREE
from tests.ami.cloud import HOME, Refusal, Request
from tests.ami.iam import listed
from tests.fleet.deployer import POLICY, Deployer
from tests.fleet.permissions import MAKES, OF_S3, questions

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


def test_a_fleet_comes_changes_and_goes(deployer: Deployer) -> None:
    deployer.settings["tags"] = {"team": "speech"}
    printed = deployer.run()
    assert "add     Group" in printed
    made = deployer.outputs()
    assert f"try it: aws s3 cp talk.mp3 {made['InputLocation']}" in printed
    assert made["QueueUrl"] in printed
    assert "nobody is told when recordings fail or cost runs on: set AlarmTopic" in printed
    (stack,) = deployer.cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["Tags"] == [{"Key": "team", "Value": "speech"}]

    printed = deployer.run()
    assert "no changes" in printed and made["QueueUrl"] in printed
    assert len(deployer.cloud.calls("cloudformation:ExecuteChangeSet")) == 1

    deployer.settings |= {"MaxInstances": 5, "AlarmTopic": "arn:aws:sns:us-east-1:123456789012:me"}
    assert "nobody is told" not in deployer.run()
    assert len(deployer.cloud.calls("cloudformation:ExecuteChangeSet")) == 2
    (group,) = deployer.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["AutoScalingGroupName"], group["MaxSize"]) == ("preheat-test", 5)

    bucket = made["InputBucket"]
    deployer.cloud.client("s3").put_object(Bucket=bucket, Key="recordings/talk.mp3", Body=b"talk")
    printed = deployer.run("fleet-remove")
    assert f"aws s3 rb s3://{bucket} --force" in printed
    assert deployer.cloud.client("s3").head_object(Bucket=bucket, Key="recordings/talk.mp3")
    assert deployer.cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert "has no stack preheat-test" in deployer.run("fleet-remove")


def test_changes_are_shown_before_they_are_made(deployer: Deployer) -> None:
    shown: list[str] = []
    deployer.cloud.before["cloudformation:ExecuteChangeSet"] = lambda _: shown.append(
        " ".join(deployer.capsys.readouterr().out.split())
    )
    deployer.run()
    assert "add Queue AWS::SQS::Queue add " in shown[0]


def test_it_is_shown_what_will_be_replaced() -> None:
    """A queue would lose its messages. moto says of nothing that it is replaced."""
    change = {"Action": "Modify", "LogicalResourceId": "Queue", "ResourceType": "AWS::SQS::Queue"}
    told = [stack.shown([change | {"Replacement": said}]).splitlines()[-1] for said in ("True", "False")]
    assert [line.endswith("replaced") for line in told] == [True, False]


# ---- the stack in other states than a good one


def set_status(status: str) -> None:
    """Leave the stack in a state that moto itself never leaves one in."""
    (stack,) = get_backend("cloudformation")[ACCOUNT][HOME].stacks.values()
    stack.status = status


def fail(status: str, *failures: tuple[str, str]) -> None:
    """Let a change have failed: resources with their reasons, in this order; and the status of the stack."""
    (stack,) = get_backend("cloudformation")[ACCOUNT][HOME].stacks.values()
    for resource, reason in failures:
        stack.events.append(
            Event(stack.stack_id, stack.name, resource, "1", "AWS::Some::Type", "CREATE_FAILED", reason, "")
        )
    stack._add_stack_event(status)
    stack.status = status


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_an_empty_stack_of_a_failed_run_is_replaced(deployer: Deployer, status: str) -> None:
    deployer.run()
    set_status(status)
    assert f"({status}), and is deleted first" in deployer.run()
    assert len(deployer.cloud.calls("cloudformation:DeleteStack")) == 1
    assert deployer.outputs()["Group"] == "preheat-test"


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        ("DELETE_FAILED", "Run: make fleet-remove"),
        ("CREATE_FAILED", "Run: make fleet-remove"),
        ("ROLLBACK_FAILED", "Run: make fleet-remove"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --region us-east-1 --stack-name preheat-test"),
    ],
)
def test_a_stuck_stack_is_said_with_its_cure(deployer: Deployer, status: str, cure: str) -> None:
    deployer.run()
    set_status(status)
    deployer.refused("fleet", f"is in {status}", cure)
    assert len(deployer.cloud.calls("cloudformation:CreateChangeSet")) == 1


def test_another_change_is_waited_for(deployer: Deployer) -> None:
    deployer.run()
    set_status("UPDATE_IN_PROGRESS")

    def done(request: Request) -> None:
        if len(deployer.cloud.calls("cloudformation:DescribeStacks")) > looks + 3:
            set_status("UPDATE_COMPLETE")

    looks = len(deployer.cloud.calls("cloudformation:DescribeStacks"))
    deployer.cloud.after["cloudformation:DescribeStacks"] = done
    printed = deployer.run()
    assert "is being changed (UPDATE_IN_PROGRESS)" in printed and "no changes" in printed


@pytest.mark.parametrize(
    ("described", "said"), [({"Description": "The payroll"}, "The payroll"), ({}, "not described")]
)
def test_a_stack_that_is_no_fleet_is_left_alone(
    deployer: Deployer, described: dict[str, str], said: str
) -> None:
    deployer.cloud.client("cloudformation").create_stack(
        StackName="preheat-test",
        TemplateBody=json.dumps(described | {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}),
    )
    for command in ("fleet", "fleet-remove", "fleet-status"):
        deployer.refused(command, f"has a stack preheat-test that is no fleet: {said}", "another name")
    assert not deployer.cloud.calls("cloudformation:DeleteStack")


@pytest.mark.parametrize(
    ("reason", "cure"),
    [
        ("User: x is not authorized to perform: iam:CreateRole", "Attach the policy docs/fleet-policy.json"),
        ("preheat-test already exists", "Set another name"),
        ("The image id '[ami-1]' does not exist", "Do what it says"),
    ],
)
def test_the_first_failure_is_shown_and_not_what_it_stopped(
    deployer: Deployer, reason: str, cure: str
) -> None:
    stopped = "Resource creation cancelled"
    failures = [("WakeRole", stopped), ("Group", reason), ("Dashboard", stopped), ("Queue", "later")]
    deployer.cloud.after["cloudformation:ExecuteChangeSet"] = lambda _: fail("ROLLBACK_COMPLETE", *failures)
    deployer.refused("fleet", f"is in ROLLBACK_COMPLETE: Group (AWS::Some::Type): {reason}", cure)


def test_a_refused_change_set_leaves_no_stack(deployer: Deployer) -> None:
    def refuse(_: Request) -> None:
        (change_set,) = get_backend("cloudformation")[ACCOUNT][HOME].change_sets.values()
        change_set.status, change_set.status_reason = "FAILED", "Parameters: [VpcId] do not exist"

    deployer.cloud.after["cloudformation:CreateChangeSet"] = refuse
    deployer.refused("fleet", "CloudFormation refuses the change: Parameters: [VpcId] do not exist")
    assert deployer.cloud.client("cloudformation").describe_stacks()["Stacks"] == []


def test_the_template_is_sent_as_it_is(deployer: Deployer) -> None:
    deployer.run()
    (request,) = deployer.cloud.calls("cloudformation:CreateChangeSet")
    assert request.parameters["TemplateBody"] == TEMPLATE.read_text()


# ---- removal


def test_recordings_in_the_queue_are_not_forgotten_unasked(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer.run()
    sqs, made = deployer.cloud.client("sqs"), deployer.outputs()
    sqs.send_message(QueueUrl=made["QueueUrl"], MessageBody="{}")
    deployer.refused("fleet-remove", "1 recordings wait, 0 are at work", "make fleet-remove REMOVE=yes")
    sqs.receive_message(QueueUrl=made["QueueUrl"])
    deployer.refused("fleet-remove", "0 recordings wait, 1 are at work")
    assert not deployer.cloud.calls("cloudformation:DeleteStack")
    monkeypatch.setenv("REMOVE", "yes")
    assert "is deleted" in deployer.run("fleet-remove")


def test_dead_letters_are_not_forgotten_unasked(deployer: Deployer) -> None:
    deployer.run()
    deployer.cloud.client("sqs").send_message(QueueUrl=deployer.outputs()["DeadLettersUrl"], MessageBody="{}")
    deployer.refused("fleet-remove", "1 are dead letters")


def test_instances_lose_their_protection_before_the_group_goes(deployer: Deployer) -> None:
    """Or CloudFormation would wait for them until it gives up."""
    deployer.run()
    deployer.cloud.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName="preheat-test", DesiredCapacity=2
    )
    deployer.run("fleet-remove")
    (request,) = deployer.cloud.calls("autoscaling:SetInstanceProtection")
    assert request.parameters["ProtectedFromScaleIn"] == "false"
    assert len([key for key in request.parameters if key.startswith("InstanceIds")]) == 2


def test_what_cannot_be_deleted_is_said(deployer: Deployer) -> None:
    deployer.run()

    def stay(_: Request) -> str:
        fail("DELETE_FAILED", ("Group", "has instances"))
        return "<DeleteStackResponse/>"

    deployer.cloud.before["cloudformation:DeleteStack"] = stay
    deployer.refused("fleet-remove", "DELETE_FAILED: Group (AWS::Some::Type): has instances")


@pytest.mark.parametrize("own", [False, True])
def test_transcripts_in_a_bucket_of_their_own_stay_and_are_named(deployer: Deployer, own: bool) -> None:
    for bucket in ("mine", "texts"):
        deployer.cloud.client("s3").create_bucket(Bucket=bucket)
    deployer.settings |= {"OutputBucket": "texts"} | ({"InputBucket": "mine"} if own else {})
    deployer.run()
    printed = deployer.run("fleet-remove")
    assert "stays: s3://texts/transcripts/ with all transcripts" in printed
    assert "rb s3://texts" not in printed and "rb s3://mine" not in printed
    assert ("with all recordings\n" in printed) != own and "recordings and transcripts" not in printed


# ---- an existing bucket

EVENTS = "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>"


def test_an_existing_bucket_tells_eventbridge_too_and_stays(deployer: Deployer) -> None:
    s3, sqs = deployer.cloud.client("s3"), deployer.cloud.client("sqs")
    s3.create_bucket(Bucket="mine")
    queue = sqs.create_queue(QueueName="others")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    there = [{"Id": "others", "QueueArn": arn, "Events": ["s3:ObjectRemoved:*"]}]
    s3.put_bucket_notification_configuration(
        Bucket="mine", NotificationConfiguration={"QueueConfigurations": there}
    )
    deployer.settings["InputBucket"] = "mine"
    assert "the bucket mine tells EventBridge of uploads from now on; its 1 other notifications stay" in (
        deployer.run()
    )
    assert s3.get_bucket_notification_configuration(Bucket="mine")["QueueConfigurations"] == there
    told = get_backend("s3")[ACCOUNT]["aws"].buckets["mine"].notification_configuration
    assert told and told.event_bridge == {}  # moto does not tell it to callers
    deployer.cloud.before["s3:GET notification"] = lambda _: EVENTS
    assert "tells EventBridge" not in deployer.run(), "it is set once"
    assert "stays: s3://mine, as you made it" in deployer.run("fleet-remove")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mine"]


# ---- the policy

# Actions that are allowed but needed by no call in these tests, with the reason to allow them.
NOT_CALLED_HERE = {
    "cloudformation:DeleteChangeSet": "if it changes nothing",
    "iam:CreateServiceLinkedRole": "once an account",
    "kms:DescribeKey": "if the AMI is encrypted",
    "kms:GetKeyPolicy": "",
    "kms:ListGrants": "",
    "logs:GetLogEvents": "once there are jobs",
}


def test_the_policy_allows_what_is_called_and_no_more(deployer: Deployer) -> None:
    """Every call of every test is judged; this compares the other way round, for what is allowed in vain."""
    deployer.cloud.client("s3").create_bucket(Bucket="mine")
    deployer.settings |= {"InputBucket": "mine"}
    deployer.run()
    deployer.cloud.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName="preheat-test", DesiredCapacity=1
    )
    deployer.run("fleet-status")
    deployer.run("fleet-remove")
    asked = {
        question.action
        for request in deployer.cloud.requests
        if request.access_key == "builder" and request.action not in FREE
        for question in questions(request.action, request.region, request.parameters, lambda *_: {})
    }
    allowed = {action for statement in POLICY["Statement"] for action in listed(statement["Action"])}
    assert asked <= allowed
    assert allowed - asked == NOT_CALLED_HERE.keys()


def test_the_permissions_know_every_type_of_the_template() -> None:
    assert {body["Type"] for body in template()["Resources"].values()} == MAKES.keys()
    assert set(OF_S3.values()) <= {
        a.partition(":")[2] for s in POLICY["Statement"] for a in listed(s["Action"])
    }


def test_every_resource_can_be_tagged() -> None:
    """CloudFormation passes the stack's tags on, with the actions that a type's own schema names."""
    no_actions = {"s3:DeleteBucketTagging"}  # a call that IAM knows as PutBucketTagging
    for kind, calls in MAKES.items():
        tagging = PROVIDER_SCHEMA_MANAGER.get_resource_schema(HOME, kind).schema.get("tagging", {})
        needed = set(tagging.get("permissions", [])) - no_actions
        assert needed <= {action.removeprefix("*") for action in calls[0].split()}, kind


def test_the_policy_is_not_too_long_for_iam() -> None:
    assert len("".join(json.dumps(POLICY).split())) <= 6144  # characters, without white space


def test_what_is_missing_is_said_with_the_policy(deployer: Deployer) -> None:
    deployer.cloud.before["cloudformation:CreateChangeSet"] = lambda _: Refusal("AccessDenied", "no", 403)
    deployer.refused("fleet", "not allowed to do CreateChangeSet", "docs/fleet-policy.json", "docs/fleet.md")


def test_almost_everything_is_for_fleets_alone() -> None:
    """What changes something names the fleet's resources, or may be called by CloudFormation only."""
    for statement in POLICY["Statement"]:
        verbs = {action.partition(":")[2] for action in listed(statement["Action"])}
        if all(verb.startswith(("Describe", "Get", "List")) for verb in verbs):
            continue
        condition = json.dumps(statement.get("Condition", {}))
        if "cloudformation.amazonaws.com" in condition or "PassedToService" in condition:
            continue
        for resource in listed(statement["Resource"]):
            own = "preheat" in resource or "/aws-service-role/" in resource
            assert own or statement["Sid"] == "TheBucketsThatYouName", statement["Sid"]
