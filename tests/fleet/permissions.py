"""The permissions that AWS checks for the calls of `make fleet`, `fleet-status` and `fleet-remove`.

By the Service Authorization Reference, like tests/ami/calls.py. CloudFormation acts with the permissions of
whoever calls it. What it calls for each type of resource is from AWS's documentation, and not verified: the
first run on AWS shows it (docs/unverified.md).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from factory.ec2.fleetcheck import ROLES
from factory.ec2.template import template
from tests.ami.calls import ACCOUNT, Tags
from tests.ami.calls import questions as of_others
from tests.ami.iam import Question, UnknownError

VIA = {"aws:CalledVia": "cloudformation.amazonaws.com"}
OF_S3 = {
    "HEAD": "ListBucket",
    "GET notification": "GetBucketNotification",
    "PUT notification": "PutBucketNotification",
}
STACK = {
    *("CreateChangeSet", "DeleteChangeSet", "DescribeChangeSet", "ExecuteChangeSet"),
    *("DeleteStack", "DescribeStackEvents", "DescribeStackResources", "DescribeStacks"),
}
EVERYWHERE = {
    "autoscaling:DescribeAutoScalingGroups": "autoscaling:DescribeAutoScalingGroups",
    "monitoring:GetMetricStatistics": "cloudwatch:GetMetricStatistics",
}

# For each type: what CloudFormation calls to create or update it, and to delete it. Star: nothing is named.
MAKES: Mapping[str, tuple[str, str]] = {
    "AWS::S3::Bucket": (
        "s3:CreateBucket s3:PutEncryptionConfiguration s3:PutBucketPublicAccessBlock s3:PutBucketTagging"
        " s3:PutBucketOwnershipControls s3:PutBucketNotification s3:PutLifecycleConfiguration"
        " s3:GetBucketTagging s3:TagResource s3:UntagResource s3:ListTagsForResource",
        "",
    ),
    "AWS::S3::BucketPolicy": ("s3:PutBucketPolicy s3:GetBucketPolicy", ""),
    "AWS::SQS::Queue": (
        "sqs:CreateQueue sqs:SetQueueAttributes sqs:GetQueueAttributes sqs:TagQueue sqs:UntagQueue"
        " sqs:ListQueueTags",
        "sqs:DeleteQueue sqs:GetQueueAttributes",
    ),
    "AWS::SQS::QueuePolicy": ("sqs:SetQueueAttributes sqs:GetQueueAttributes", "sqs:SetQueueAttributes"),
    "AWS::Events::Rule": (
        "events:PutRule events:PutTargets events:DescribeRule events:TagResource events:UntagResource"
        " events:ListTagsForResource",
        "events:RemoveTargets events:DeleteRule events:DescribeRule",
    ),
    "AWS::Lambda::Function": (
        "lambda:CreateFunction lambda:GetFunction lambda:TagResource lambda:UpdateFunctionCode"
        " lambda:UpdateFunctionConfiguration lambda:UntagResource lambda:ListTags",
        "lambda:DeleteFunction lambda:GetFunction",
    ),
    "AWS::Lambda::Permission": ("lambda:AddPermission lambda:GetPolicy", "lambda:RemovePermission"),
    "AWS::Logs::LogGroup": (
        "logs:CreateLogGroup logs:PutRetentionPolicy logs:TagResource logs:UntagResource"
        " logs:ListTagsForResource *logs:DescribeLogGroups",
        "logs:DeleteLogGroup *logs:DescribeLogGroups",
    ),
    "AWS::Logs::QueryDefinition": (
        "*logs:PutQueryDefinition *logs:DescribeQueryDefinitions",
        "*logs:DeleteQueryDefinition",
    ),
    "AWS::IAM::Role": (
        "iam:CreateRole iam:GetRole iam:PutRolePolicy iam:GetRolePolicy iam:TagRole iam:UntagRole"
        " iam:ListRoleTags",
        "iam:DeleteRole iam:DeleteRolePolicy iam:ListRolePolicies iam:GetRole",
    ),
    "AWS::IAM::InstanceProfile": (
        "iam:CreateInstanceProfile iam:AddRoleToInstanceProfile iam:GetInstanceProfile",
        "iam:DeleteInstanceProfile iam:RemoveRoleFromInstanceProfile iam:GetInstanceProfile",
    ),
    "AWS::AutoScaling::AutoScalingGroup": (
        "autoscaling:CreateAutoScalingGroup autoscaling:UpdateAutoScalingGroup autoscaling:CreateOrUpdateTags"
        " autoscaling:DeleteTags"
        " autoscaling:PutLifecycleHook autoscaling:DeleteLifecycleHook *autoscaling:DescribeLifecycleHooks"
        " *autoscaling:DescribeAutoScalingGroups *autoscaling:DescribeScalingActivities *ec2:RunInstances",
        "autoscaling:DeleteAutoScalingGroup autoscaling:UpdateAutoScalingGroup",
    ),
    "AWS::EC2::LaunchTemplate": (
        "*ec2:CreateLaunchTemplate *ec2:CreateLaunchTemplateVersion *ec2:DescribeLaunchTemplates"
        " *ec2:DescribeLaunchTemplateVersions *ec2:CreateTags",
        "*ec2:DeleteLaunchTemplate",
    ),
    "AWS::EC2::SecurityGroup": (
        "*ec2:CreateSecurityGroup *ec2:AuthorizeSecurityGroupEgress *ec2:RevokeSecurityGroupEgress"
        " *ec2:DescribeSecurityGroups *ec2:CreateTags *ec2:DeleteTags",
        "*ec2:DeleteSecurityGroup",
    ),
    "AWS::CloudWatch::Alarm": (
        "cloudwatch:PutMetricAlarm cloudwatch:DescribeAlarms"
        " cloudwatch:TagResource cloudwatch:UntagResource cloudwatch:ListTagsForResource",
        "cloudwatch:DeleteAlarms cloudwatch:DescribeAlarms",
    ),
    "AWS::CloudWatch::Dashboard": (
        "cloudwatch:PutDashboard cloudwatch:GetDashboard"
        " cloudwatch:TagResource cloudwatch:UntagResource cloudwatch:ListTagsForResource",
        "cloudwatch:DeleteDashboards",
    ),
}
ARN: Mapping[str, str] = {
    "autoscaling": "arn:aws:autoscaling:{region}:{account}:autoScalingGroup:1:autoScalingGroupName/{name}",
    "AWS::CloudWatch::Alarm": "arn:aws:cloudwatch:{region}:{account}:alarm:{name}-{logical}-1",
    "AWS::CloudWatch::Dashboard": "arn:aws:cloudwatch::{account}:dashboard/{name}",
    "AWS::IAM::InstanceProfile": "arn:aws:iam::{account}:instance-profile/{name}-{logical}-1",
    "events": "arn:aws:events:{region}:{account}:rule/{name}-{logical}-1",
    "iam": "arn:aws:iam::{account}:role/{name}-{logical}-1",
    "lambda": "arn:aws:lambda:{region}:{account}:function:{name}-{logical}-1",
    "logs": "arn:aws:logs:{region}:{account}:log-group:{name}-{logical}-1",
    "s3": "arn:aws:s3:::{name}-recordings-1",
    "sqs": "arn:aws:sqs:{region}:{account}:{name}-{logical}-1",
}
# What CloudFormation asks about the parameters.
VALIDATED = ("ec2:DescribeVpcs", "ec2:DescribeSubnets", "ec2:DescribeImages")


def questions(action: str, region: str, parameters: Mapping[str, Any], tags: Tags) -> Iterator[Question]:
    """Every permission that the call needs. Raises UnknownError for calls that are not modelled here."""
    service, _, name = action.partition(":")
    here = f"{region}:{ACCOUNT}"
    if action in EVERYWHERE:
        yield Question(EVERYWHERE[action], "*")
    elif action == "autoscaling:SetInstanceProtection":
        group = parameters["AutoScalingGroupName"]
        yield Question(action, f"arn:aws:autoscaling:{here}:autoScalingGroup:1:autoScalingGroupName/{group}")
    elif service == "cloudformation" and name in STACK:
        yield from of_stack(action, region, parameters)
    elif service == "s3" and name in OF_S3:
        yield Question(f"s3:{OF_S3[name]}", f"arn:aws:s3:::{parameters['Bucket']}")
    elif action == "sqs:GetQueueAttributes":
        yield Question(action, f"arn:aws:sqs:{here}:{parameters['QueueUrl'].rpartition('/')[2]}")
    elif action in ("logs:DescribeLogStreams", "logs:GetLogEvents"):
        stream = parameters.get("logStreamName", "")
        yield Question(
            action, f"arn:aws:logs:{here}:log-group:{parameters['logGroupName']}:log-stream:{stream}"
        )
    elif action in ("kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListGrants"):
        yield Question(action, parameters["KeyId"])
    elif action in ("iam:GetRole", "iam:CreateServiceLinkedRole"):
        role = parameters.get("RoleName") or role_of(parameters["AWSServiceName"])
        yield Question(action, f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{ROLES[role]}/{role}")
    else:
        yield from of_others(action, region, parameters, tags)


def role_of(service: str) -> str:
    """The role of a service."""
    return next(role for role, name in ROLES.items() if name == service)


def of_stack(action: str, region: str, parameters: Mapping[str, Any]) -> Iterator[Question]:
    """The questions about a call of CloudFormation, and about what it calls in turn."""
    given = parameters["StackName"]
    name = given.split("/")[1] if given.startswith("arn:") else given
    yield Question(action, f"arn:aws:cloudformation:{region}:{ACCOUNT}:stack/{name}/1")
    if action == "cloudformation:CreateChangeSet":
        yield Question("ssm:GetParameters", f"arn:aws:ssm:{region}:{ACCOUNT}:parameter/preheat/ami", VIA)
        for asked in VALIDATED:
            yield Question(asked, "*", VIA)
    elif action == "cloudformation:ExecuteChangeSet":
        yield from of_resources(0, name, region)
        for service in ("ec2", "lambda"):
            passed = VIA | {"iam:PassedToService": f"{service}.amazonaws.com"}
            yield Question("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{name}-Role-1", passed)
    elif action == "cloudformation:DeleteStack":
        yield from of_resources(1, name, region)


def of_resources(which: int, name: str, region: str) -> Iterator[Question]:
    """The questions about creating (0) or deleting (1) every resource of the template."""
    for logical, body in template()["Resources"].items():
        if body["Type"] not in MAKES:
            raise UnknownError(f"resource: {body['Type']}")
        for action in MAKES[body["Type"]][which].split():
            service = action.partition(":")[0]
            form = "*" if action.startswith("*") else ARN.get(body["Type"]) or ARN[service]
            arn = form.format(region=region, account=ACCOUNT, name=name, logical=logical)
            yield Question(action.removeprefix("*"), arn, VIA)
