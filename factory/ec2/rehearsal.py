"""A dry run of Packer's requests to EC2: with DryRun, EC2 says whether it would allow them and does nothing.

A refusal is reported in EC2's words. Packer's plugin would not report it for a fleet, which it requests spot
instances through: it crashes.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from factory.ec2.aws import client, code, explained
from factory.ec2.builder import market
from factory.ec2.preflight import Plan
from factory.ec2.settings import Settings

ALLOWED = "DryRunOperation"
NAME = "preheat-dry-run"
TAGS = [{"Key": "preheat:run", "Value": NAME}]


def rehearse(plan: Plan, settings: Settings) -> None:
    """Check that EC2 would launch the builder on the first candidate; FactoryError with its reason if not."""
    ec2, (instance_type, subnet) = client("ec2", settings.region), plan.candidates[0]
    name = settings.iam_instance_profile
    profile: dict[str, Any] = {"IamInstanceProfile": {"Name": name}} if name else {}
    with explained():
        dry_run(
            ec2.run_instances,
            ImageId=plan.source["ImageId"],
            InstanceType=instance_type,
            SubnetId=subnet,
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": made, "Tags": TAGS} for made in ("instance", "volume")],
            **market(settings),
            **profile,
        )
        if not settings.spot:
            return
        dry_run(
            ec2.create_launch_template,
            LaunchTemplateName=NAME,
            LaunchTemplateData={"ImageId": plan.source["ImageId"], "InstanceType": instance_type, **profile},
        )
        dry_run(
            ec2.create_fleet,
            "InvalidLaunchTemplateName.NotFoundException",  # EC2 may look it up first, and it does not exist
            Type="instant",
            LaunchTemplateConfigs=[
                {"LaunchTemplateSpecification": {"LaunchTemplateName": NAME, "Version": "1"}}
            ],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
        )


def dry_run(call: Callable[..., Any], *also: str, **parameters: Any) -> None:
    """Require that EC2 would allow a call; ClientError if not. Codes in `also` mean that it would, too."""
    try:
        call(DryRun=True, **parameters)
    except ClientError as error:
        if code(error) not in (ALLOWED, *also):
            raise
