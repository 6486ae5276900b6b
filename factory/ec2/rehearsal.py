"""What Packer is going to ask of EC2, asked with DryRun: it says whether it would, and does nothing.

A refusal is told here in EC2's words. Of a fleet, which spot instances come from, Packer's plugin passes on
none: it crashes.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from factory.ec2.aws import client, code, explained
from factory.ec2.builder import market
from factory.ec2.preflight import Plan
from factory.ec2.settings import Settings

WOULD = "DryRunOperation"
NAME = "preheat-dry-run"
TAGS = [{"Key": "preheat:run", "Value": NAME}]


def rehearse(plan: Plan, settings: Settings) -> None:
    """EC2 would launch the builder on the first of the candidates; FactoryError with its reason if not."""
    ec2, (instance_type, subnet) = client("ec2", settings.region), plan.candidates[0]
    name = settings.iam_instance_profile
    profile: dict[str, Any] = {"IamInstanceProfile": {"Name": name}} if name else {}
    with explained():
        would(
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
        would(
            ec2.create_launch_template,
            LaunchTemplateName=NAME,
            LaunchTemplateData={"ImageId": plan.source["ImageId"], "InstanceType": instance_type, **profile},
        )
        would(
            ec2.create_fleet,
            "InvalidLaunchTemplateName.NotFoundException",  # EC2 may look for it first; there is none
            Type="instant",
            LaunchTemplateConfigs=[
                {"LaunchTemplateSpecification": {"LaunchTemplateName": NAME, "Version": "1"}}
            ],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
        )


def would(call: Callable[..., Any], *also: str, **parameters: Any) -> None:
    """EC2 would do this; ClientError if not. `also` are codes that say as much."""
    try:
        call(DryRun=True, **parameters)
    except ClientError as error:
        if code(error) not in (WOULD, *also):
            raise
