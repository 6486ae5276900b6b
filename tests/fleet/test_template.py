"""deploy/fleet.yml: what moto makes of it, and what is promised of it."""

import base64
import json
import re
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from factory.console import ROOT
from factory.ec2.template import TEMPLATE, WAKE, parameters, template, with_wake
from tests.fleet.stacks import outputs

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

REGION = "eu-west-1"
LIMIT = 51_200  # bytes of a template that is sent without a bucket
RESOURCES: dict[str, dict[str, Any]] = template()["Resources"]


def of_type(name: str) -> dict[str, dict[str, Any]]:
    """The resources of a type."""
    return {key: body for key, body in RESOURCES.items() if body["Type"] == name}


def test_cfn_lint_ignores_nothing() -> None:
    """`make lint` runs it without options and configuration; nor does the template itself silence it."""
    assert "cfn-lint" not in TEMPLATE.read_text()
    assert "step cfn-lint --config-file /dev/null deploy/fleet.yml\n" in (ROOT / "tests/lint.sh").read_text()


def test_it_needs_no_bucket_of_its_own() -> None:
    assert len(TEMPLATE.read_bytes()) <= 45_000 < LIMIT


def test_the_function_is_the_tested_file() -> None:
    """Run `make docs` after a change of deploy/wake.py."""
    assert with_wake(TEMPLATE.read_text()) == TEMPLATE.read_text()
    assert RESOURCES["Wake"]["Properties"]["Code"] == {"ZipFile": WAKE.read_text()}
    assert len(WAKE.read_text()) <= 4096  # CloudFormation's limit


# ---- created in moto

# What moto does not create: it warns, and the stack is CREATE_COMPLETE all the same.
SKIPPED = {
    "AWS::CloudWatch::Alarm": 6,
    "AWS::Logs::QueryDefinition": 1,
    "AWS::S3::BucketPolicy": 1,
    "AWS::SQS::QueuePolicy": 1,
}
WARNING = "Tried to parse {} but it's not supported by moto's CloudFormation implementation"


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto, in this process."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with mock_aws():
        ec2 = boto3.client("ec2")
        ami = ec2.describe_images()["Images"][0]["ImageId"]
        boto3.client("ssm").put_parameter(Name="/preheat/ami", Value=ami, Type="String")
        yield


def create(**chosen: str) -> dict[str, str]:
    """Create the stack, and return its outputs."""
    subnets = boto3.client("ec2").describe_subnets()["Subnets"]
    chosen = {
        "Subnets": ",".join(subnet["SubnetId"] for subnet in subnets),
        "VpcId": subnets[0]["VpcId"],
        **chosen,
    }
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName="preheat",
        TemplateBody=TEMPLATE.read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in chosen.items()],
    )
    return outputs(cloudformation, "preheat")


def launch_data() -> dict[str, Any]:
    """What the launch template says."""
    found: dict[str, Any] = boto3.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=boto3.client("ec2").describe_launch_templates()["LaunchTemplates"][0][
            "LaunchTemplateId"
        ]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return found


def settings_of_worker(tmp_path: Path) -> dict[str, str]:
    """What the user data write for the worker, run by a shell in a folder that stands for /."""
    script = base64.b64decode(launch_data()["UserData"]).decode()
    here = script.replace("/etc/preheat", str(tmp_path)).replace("systemctl", "echo systemctl")
    done = subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=True)
    assert done.stdout == "systemctl enable --now preheat-worker.service\n"
    lines = (tmp_path / "worker.env").read_text().splitlines()
    assert all(line.endswith('"') for line in lines)
    return {name: value[1:-1] for name, _, value in (line.partition("=") for line in lines)}


def test_moto_skips_what_it_is_known_to_skip(moto: None) -> None:
    """A type that is new here must be looked at: whether moto creates it, or a test stands for it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        create()
    said = Counter(str(warning.message) for warning in caught if "Tried to parse" in str(warning.message))
    assert said == {WARNING.format(name): number for name, number in SKIPPED.items()}


def test_the_worker_is_told_everything(moto: None, tmp_path: Path) -> None:
    made = create(IdleMinutes="7", Language="en", Formats="txt,json", Prompt="it's O'Brien & Söhne, 5 %")
    assert settings_of_worker(tmp_path) == {
        "PREHEAT_FLEET": "preheat",
        "PREHEAT_QUEUE_URL": made["QueueUrl"],
        "PREHEAT_OUTPUT": made["OutputLocation"],
        "PREHEAT_LOG_GROUP": made["JobsLog"],
        "PREHEAT_GROUP": made["Group"],
        "PREHEAT_HOOK": hook()["LifecycleHookName"]["Fn::Sub"].replace("${AWS::StackName}", "preheat"),
        "PREHEAT_IDLE_SECONDS": "420",
        "PREHEAT_READY_SECONDS": "900",
        "PREHEAT_LANGUAGE": "en",
        "PREHEAT_TASK": "transcribe",
        "PREHEAT_FORMATS": "txt,json",
        "PREHEAT_PROMPT": "it's O'Brien & Söhne, 5 %",
        "AWS_REGION": REGION,
    }


@pytest.mark.parametrize(
    "name",
    ["InputBucket", "InputPrefix", "OutputBucket", "OutputPrefix", "KmsKey", "Formats", "Prompt"],
)
def test_no_parameter_can_hold_what_the_shell_or_systemd_would_expand(name: str) -> None:
    pattern = parameters()[name]["AllowedPattern"]
    for text in ('a"b/', "a\\b/", "a$b/", "a`b`/", "a\nb/", "a\rb/"):
        assert not re.fullmatch(pattern, text), (name, text)


def test_existing_buckets_are_used_as_they_are(moto: None) -> None:
    made = create(InputBucket="in-bucket", OutputBucket="out-bucket", OutputPrefix="")
    assert made["InputLocation"] == "s3://in-bucket/recordings/"
    assert made["OutputLocation"] == "s3://out-bucket/"
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_the_group_has_the_chosen_types_and_starts_with_none(moto: None) -> None:
    create(InstanceTypes="g6e.xlarge", OnDemand="true")
    (group,) = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["DesiredCapacity"], group["MaxSize"]) == (0, 0, 2)
    assert group["NewInstancesProtectedFromScaleIn"]
    policy = group["MixedInstancesPolicy"]
    assert [item["InstanceType"] for item in policy["LaunchTemplate"]["Overrides"] if item] == ["g6e.xlarge"]
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 100


def test_the_dashboard_is_json(moto: None) -> None:
    create()
    body = json.loads(boto3.client("cloudwatch").get_dashboard(DashboardName="preheat")["DashboardBody"])
    assert len(body["widgets"]) == 5


# ---- promises


def properties(name: str) -> dict[str, Any]:
    """The properties of a resource."""
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def test_no_recording_and_no_transcript_is_ever_deleted() -> None:
    assert of_type("AWS::S3::Bucket").keys() == {"Recordings"}
    for name in ("Recordings", "RecordingsPolicy"):
        assert (RESOURCES[name]["DeletionPolicy"], RESOURCES[name]["UpdateReplacePolicy"]) == ("Retain",) * 2


def test_nothing_is_public_and_all_is_encrypted() -> None:
    bucket = properties("Recordings")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == {
        "Fn::If": ["OwnKey", "aws:kms", "AES256"]
    }
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True
    (volume,) = properties("LaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert volume["Ebs"]["Encrypted"] is True
    assert "SecurityGroupIngress" not in properties("SecurityGroup")


@pytest.mark.parametrize("name", ["RecordingsPolicy", "QueuePolicy"])
def test_only_tls_and_only_the_rule(name: str) -> None:
    """Anybody is denied without TLS; only the rule is allowed anything."""
    for statement in properties(name)["PolicyDocument"]["Statement"]:
        if statement["Effect"] == "Deny":
            assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            assert (statement["Principal"], statement["Action"][-2:]) == ("*", ":*")
        else:
            assert statement["Principal"] == {"Service": "events.amazonaws.com"}
            assert statement["Condition"] == {
                "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": "UploadRule.Arn"}}
            }
    effects = [statement["Effect"] for statement in properties(name)["PolicyDocument"]["Statement"]]
    assert effects.count("Deny") == 1


def test_instances_are_as_closed_as_they_can_be() -> None:
    data = properties("LaunchTemplate")["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert "KeyName" not in data and "NetworkInterfaces" not in data


def test_an_update_of_the_stack_ends_no_work() -> None:
    """Capacity is for wake and the instances alone, and nothing scales in."""
    group = properties("Group")
    assert "DesiredCapacity" not in group and "UpdatePolicy" not in RESOURCES["Group"]
    assert group["MinSize"] == "0" and group["NewInstancesProtectedFromScaleIn"] is True
    assert group.get("CapacityRebalance", False) is False
    assert not of_type("AWS::AutoScaling::ScalingPolicy")
    distribution = group["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["SpotAllocationStrategy"] == "price-capacity-optimized"


def hook() -> dict[str, Any]:
    """The group's hook: part of the group, so that it lasts until the group's instances have ended."""
    found: dict[str, Any]
    (found,) = properties("Group")["LifecycleHookSpecificationList"]
    return found


def test_an_instance_that_is_ended_has_two_minutes() -> None:
    assert not of_type("AWS::AutoScaling::LifecycleHook")
    assert hook()["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert (hook()["HeartbeatTimeout"], hook()["DefaultResult"]) == (120, "CONTINUE")


def test_no_log_is_kept_for_ever_and_no_queue_forgets_within_a_fortnight() -> None:
    for log in of_type("AWS::Logs::LogGroup").values():
        assert log["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert properties("Queue")["VisibilityTimeout"] == 120
    assert properties("Queue")["RedrivePolicy"]["maxReceiveCount"] == 5


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        (
            "InstanceRole",
            {
                *("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"),
                *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
                *("logs:CreateLogStream", "logs:PutLogEvents"),
                *("autoscaling:TerminateInstanceInAutoScalingGroup", "autoscaling:CompleteLifecycleAction"),
                *("kms:Decrypt", "kms:GenerateDataKey"),
            },
        ),
        (
            "WakeRole",
            {
                *("sqs:GetQueueAttributes", "autoscaling:DescribeAutoScalingGroups"),
                *("autoscaling:SetDesiredCapacity", "autoscaling:SuspendProcesses"),
                *("logs:CreateLogStream", "logs:PutLogEvents"),
            },
        ),
    ],
)
def test_roles_allow_what_is_used_on_what_is_theirs(role: str, actions: set[str]) -> None:
    found = set[str]()
    assert "ManagedPolicyArns" not in properties(role)
    for policy in properties(role)["Policies"]:
        for entry in policy["PolicyDocument"]["Statement"]:
            statement = entry["Fn::If"][1] if "Fn::If" in entry else entry
            listed = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            found |= set(listed)
            assert statement["Effect"] == "Allow"
            if statement["Resource"] == "*":
                assert listed == ["autoscaling:DescribeAutoScalingGroups"]
    assert found == actions


def test_only_errors_may_be_deleted() -> None:
    for entry in properties("InstanceRole")["Policies"][0]["PolicyDocument"]["Statement"]:
        if "s3:DeleteObject" in entry.get("Action", ()):
            assert entry["Resource"]["Fn::Sub"][0].endswith("/${OutputPrefix}*.error.json")


def test_every_alarm_reaches_the_topic() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert alarms.keys() == {
        *("DeadLettersAlarm", "OldestMessageAlarm", "FailedAlarm"),
        *("IdleInstancesAlarm", "WakeErrorsAlarm", "CapacityAlarm"),
    }
    for alarm in alarms.values():
        told = {"Fn::If": ["Notify", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
        assert alarm["Properties"]["AlarmActions"] == told
        assert alarm["Properties"]["TreatMissingData"] == "notBreaching"


def test_every_parameter_is_described_and_used() -> None:
    used = json.dumps({key: template()[key] for key in ("Conditions", "Resources", "Outputs")})
    for name, body in parameters().items():
        assert len(body["Description"]) > 10
        assert f'"Ref": "{name}"' in used or f"${{{name}}}" in used, name
