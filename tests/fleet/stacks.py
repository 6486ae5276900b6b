"""The fleet's stack in moto, with the help that moto needs (docs/fleet.md tells what it does not do).

moto gives a stack made by a change set no outputs and no description, and forgets the parameters of an
update. A volume without a size, in a launch template, has the AMI's on EC2 and is an error in moto. A bucket
of a template sends no events to EventBridge there, and neither Auto Scaling nor EventBridge run anything.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.utils import yaml_tag_constructor
from moto.ec2.models.instances import Instance

from factory.ec2.template import TEMPLATE, WAKE

ACCOUNT = "123456789012"  # moto's
REGION = "eu-west-1"  # of `create`


def complete(monkeypatch_setattr: Callable[..., None]) -> None:
    """Make up for stacks without outputs, volumes without a size; let it read templates faster."""
    execute, add_device = CloudFormationBackend.execute_change_set, Instance.add_block_device

    def executed(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = self.describe_change_set(change_set_name)
        execute(self, change_set_name, stack_name)
        stack = change_set.stack
        stack.parameters = change_set.parameters
        stack._parse_template()
        stack.output_map = stack._create_output_map()
        stack.description = stack.template_dict["Description"]

    def sized(self: Any, size: int | None, *others: Any, **named: Any) -> None:
        add_device(self, size or 8, *others, **named)

    monkeypatch_setattr(CloudFormationBackend, "execute_change_set", executed)
    monkeypatch_setattr(Instance, "add_block_device", sized)
    yaml.add_multi_constructor("", yaml_tag_constructor, yaml.CLoader)
    monkeypatch_setattr(yaml, "Loader", yaml.CLoader)


@contextmanager
def moto() -> Iterator[None]:
    """AWS in this process, where the AMI's parameter names one."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        ami = boto3.client("ec2").describe_images()["Images"][0]["ImageId"]
        boto3.client("ssm").put_parameter(Name="/preheat/ami", Value=ami, Type="String")
        yield


def create(**chosen: str) -> dict[str, str]:
    """Create the stack in this process, and return its outputs; where not chosen, it has the defaults."""
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


def outputs(cloudformation: Any, name: str) -> dict[str, str]:
    """The outputs of a stack."""
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def send_events(bucket: str, **client: Any) -> None:
    """Let a bucket send its events to EventBridge, as the template has it."""
    boto3.client("s3", **client).put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )


def wake() -> Any:
    """deploy/wake.py as a module of its own: as Lambda starts it, anew."""
    spec = spec_from_file_location("wake", WAKE)
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules["wake"] = module
    spec.loader.exec_module(module)
    return module
