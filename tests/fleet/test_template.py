"""deploy/fleet.yml: its form, and what moto makes of it; what is promised of it is in test_resources.py."""

import base64
import json
import re
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pytest

from factory.console import ROOT
from factory.ec2.template import TEMPLATE, WAKE, parameters, template, with_wake
from tests.fleet.stacks import REGION, create

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

LIMIT = 51_200  # bytes of a template that is sent without a bucket


def test_cfn_lint_ignores_nothing() -> None:
    """`make lint` runs it without options and configuration; nor does the template itself silence it."""
    assert "cfn-lint" not in TEMPLATE.read_text()
    assert "step cfn-lint --config-file /dev/null deploy/fleet.yml\n" in (ROOT / "tests/lint.sh").read_text()


def test_it_needs_no_bucket_of_its_own() -> None:
    assert len(TEMPLATE.read_bytes()) <= 45_000 < LIMIT


def test_the_function_is_the_tested_file() -> None:
    """Run `make docs` after a change of deploy/wake.py."""
    assert with_wake(TEMPLATE.read_text()) == TEMPLATE.read_text()
    assert template()["Resources"]["Wake"]["Properties"]["Code"] == {"ZipFile": WAKE.read_text()}
    assert len(WAKE.read_text()) <= 4096  # CloudFormation's limit


# ---- created in moto

# What moto does not create: it warns, and the stack is CREATE_COMPLETE all the same.
SKIPPED = {
    "AWS::CloudWatch::Alarm": 6,
    "AWS::Logs::QueryDefinition": 1,
    "AWS::S3::BucketPolicy": 1,
    "AWS::SQS::QueuePolicy": 2,
}
WARNING = "Tried to parse {} but it's not supported by moto's CloudFormation implementation"


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
        "PREHEAT_HOOK": "preheat-terminating",
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


def test_every_type_is_used_in_its_order(moto: None) -> None:
    types = ["g6.xlarge", "g5.xlarge", "g6e.xlarge", "g6.2xlarge", "g5.2xlarge", "g4dn.xlarge"]
    create(InstanceTypes=",".join(types))
    (group,) = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    overrides = group["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert [item["InstanceType"] for item in overrides] == types


def test_the_dashboard_is_json(moto: None) -> None:
    create()
    body = json.loads(boto3.client("cloudwatch").get_dashboard(DashboardName="preheat")["DashboardBody"])
    assert len(body["widgets"]) == 5


def test_every_parameter_is_described_and_used() -> None:
    used = json.dumps({key: template()[key] for key in ("Conditions", "Resources", "Outputs")})
    for name, body in parameters().items():
        assert len(body["Description"]) > 10
        assert f'"Ref": "{name}"' in used or f"${{{name}}}" in used, name
