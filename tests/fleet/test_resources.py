"""deploy/fleet.yml: what is promised of it. Alarms and roles are in test_alarms.py and test_roles.py."""

from typing import Any

import pytest

from factory.ec2.template import template

RESOURCES: dict[str, dict[str, Any]] = template()["Resources"]


def of_type(name: str) -> dict[str, dict[str, Any]]:
    """The resources of a type."""
    return {key: body for key, body in RESOURCES.items() if body["Type"] == name}


def properties(name: str) -> dict[str, Any]:
    """The properties of a resource."""
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def test_no_recording_and_no_transcript_is_ever_deleted() -> None:
    assert of_type("AWS::S3::Bucket").keys() == {"Recordings"}
    for name in ("Recordings", "RecordingsPolicy"):
        assert (RESOURCES[name]["DeletionPolicy"], RESOURCES[name]["UpdateReplacePolicy"]) == ("Retain",) * 2
    for rule in properties("Recordings")["LifecycleConfiguration"]["Rules"]:
        assert rule.keys() == {"Id", "Status", "AbortIncompleteMultipartUpload"}


def test_nothing_is_public_and_all_is_encrypted() -> None:
    bucket = properties("Recordings")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": {"Fn::If": ["OwnKey", "aws:kms", "AES256"]},
        "KMSMasterKeyID": {"Fn::If": ["OwnKey", {"Ref": "KmsKey"}, {"Ref": "AWS::NoValue"}]},
    }
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True
    (volume,) = properties("LaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert volume["Ebs"]["Encrypted"] is True
    assert "SecurityGroupIngress" not in properties("SecurityGroup")
    for rule in properties("SecurityGroup")["SecurityGroupEgress"]:
        assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)


@pytest.mark.parametrize(
    ("name", "everything"),
    [
        (
            "RecordingsPolicy",
            [{"Fn::GetAtt": "Recordings.Arn"}, {"Fn::Sub": "${Recordings.Arn}/*"}],  # and its objects
        ),
        ("QueuePolicy", {"Fn::GetAtt": "Queue.Arn"}),
        ("DeadLettersPolicy", {"Fn::GetAtt": "DeadLetters.Arn"}),
    ],
)
def test_only_tls_and_only_the_rule(name: str, everything: object) -> None:
    """Anybody is denied without TLS; only the rule is allowed anything."""
    for statement in properties(name)["PolicyDocument"]["Statement"]:
        if statement["Effect"] == "Deny":
            assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            assert (statement["Principal"], statement["Action"][-2:]) == ("*", ":*")
            assert statement["Resource"] == everything
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
    made, chosen = [{"Fn::GetAtt": "SecurityGroup.GroupId"}], {"Fn::Split": [",", {"Ref": "SecurityGroups"}]}
    assert data["SecurityGroupIds"] == {"Fn::If": ["MakeSecurityGroup", made, chosen]}


def test_nothing_is_paid_for_that_was_not_asked_for() -> None:
    """No volume outlives its instance, and of a spot fleet no instance is on demand."""
    (volume,) = properties("LaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert volume["Ebs"]["DeleteOnTermination"] is True
    bought = properties("Group")["MixedInstancesPolicy"]["InstancesDistribution"]
    assert bought["OnDemandBaseCapacity"] == 0
    assert bought["OnDemandPercentageAboveBaseCapacity"] == {"Fn::If": ["RunOnDemand", 100, 0]}


def test_an_upload_reaches_the_queue_and_wakes_the_fleet_and_so_does_every_minute() -> None:
    """Of this bucket and prefix alone. In moto the tests stand for the bucket's events and for Lambda."""
    events = properties("Recordings")["NotificationConfiguration"]["EventBridgeConfiguration"]
    assert events == {"EventBridgeEnabled": True}
    upload, minute = properties("UploadRule"), properties("ReconcileRule")
    bucket = {"Fn::If": ["MakeBucket", {"Ref": "Recordings"}, {"Ref": "InputBucket"}]}
    assert upload["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [bucket]}, "object": {"key": [{"prefix": {"Ref": "InputPrefix"}}]}},
    }
    assert minute["ScheduleExpression"] == "rate(1 minute)"
    targets = [[each["Arn"]["Fn::GetAtt"] for each in rule["Targets"]] for rule in (upload, minute)]
    assert targets == [["Queue.Arn", "Wake.Arn"], ["Wake.Arn"]]
    assert not {"State", "RoleArn"} & {*upload, *minute}


def test_the_two_rules_and_nobody_else_may_call_wake() -> None:
    permissions = of_type("AWS::Lambda::Permission").values()
    sources = [each["Properties"]["SourceArn"]["Fn::GetAtt"] for each in permissions]
    assert sorted(sources) == ["ReconcileRule.Arn", "UploadRule.Arn"]
    for each in permissions:
        assert each["Properties"]["FunctionName"] == {"Ref": "Wake"}
        assert each["Properties"]["Principal"] == "events.amazonaws.com"


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
    assert hook()["LifecycleHookName"] == {"Fn::Sub": "${AWS::StackName}-terminating"}  # the worker's
    assert hook()["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert (hook()["HeartbeatTimeout"], hook()["DefaultResult"]) == (120, "CONTINUE")


def test_no_log_is_kept_for_ever_and_no_queue_forgets_within_a_fortnight() -> None:
    for log in of_type("AWS::Logs::LogGroup").values():
        assert log["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert properties("Queue")["VisibilityTimeout"] == 120
    assert properties("Queue")["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": "DeadLetters.Arn"},
        "maxReceiveCount": 5,
    }
    named = {name: template()["Outputs"][name]["Value"] for name in ("QueueUrl", "DeadLettersUrl")}
    assert named == {"QueueUrl": {"Ref": "Queue"}, "DeadLettersUrl": {"Ref": "DeadLetters"}}


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
