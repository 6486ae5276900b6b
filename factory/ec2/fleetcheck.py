"""The checks before `make fleet` makes anything: what would fail later, or never start an instance."""

from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from factory.console import FactoryError, say
from factory.ec2 import images, preflight
from factory.ec2.aws import Client, account_of, client, code
from factory.ec2.fleetkey import check_key
from factory.ec2.fleetsettings import FleetSettings
from factory.inputs import VERSION

SPOT = "AWSServiceRoleForEC2Spot"
ROLES = {"AWSServiceRoleForAutoScaling": "autoscaling.amazonaws.com", SPOT: "spot.amazonaws.com"}


def check(settings: FleetSettings) -> FleetSettings:
    """Check everything, and find out the subnets and their VPC; FactoryError names the first problem."""
    check_prefixes(settings)
    account = account_of(settings.region)
    say(f"account {account}, region {settings.region}")
    ec2 = client("ec2", settings.region)
    image = check_ami(ec2, settings, account)
    check_buckets(settings)
    subnets = find_subnets(ec2, settings)
    types = check_types(ec2, settings, subnets, image)
    check_quota(settings, types)
    check_roles(settings)
    check_key(ec2, settings.region, image, account)
    ids = ",".join(subnet["SubnetId"] for subnet in subnets)
    return replace(
        settings, parameters=settings.parameters | {"Subnets": ids, "VpcId": str(subnets[0]["VpcId"])}
    )


def check_prefixes(settings: FleetSettings) -> None:
    """Require that no transcript counts as a recording, and no recording as a transcript."""
    chosen = settings.parameters
    if chosen["OutputBucket"] not in ("", chosen["InputBucket"]):
        return
    inside, outside = chosen["InputPrefix"], chosen["OutputPrefix"]
    if inside.startswith(outside) or outside.startswith(inside):
        raise FactoryError(
            f"recordings and transcripts are in one bucket, and of InputPrefix {inside!r} and OutputPrefix"
            f" {outside!r} one is within the other",
            "Set them apart, such as recordings/ and transcripts/, or name another OutputBucket",
        )


def check_ami(ec2: Client, settings: FleetSettings, account: str) -> images.Image:
    """The AMI that the SSM parameter names. FactoryError if it is missing or of another version than this."""
    name = settings.parameters["AmiParameter"]
    cure = "Build one and name it there: make ami; or set AmiParameter to the name of another SSM parameter"
    try:
        wanted = client("ssm", settings.region).get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError as error:
        if code(error) != "ParameterNotFound":
            raise
        raise FactoryError(f"there is no SSM parameter {name} in {settings.region}", cure) from error
    try:
        found = ec2.describe_images(ImageIds=[wanted])["Images"]
    except ClientError as error:
        if not code(error).startswith("InvalidAMIID"):
            raise
        found = []
    if not found or found[0]["State"] != "available":
        raise FactoryError(
            f"{wanted}, which the SSM parameter {name} names, is not there to be launched", cure
        )
    image: images.Image = found[0]
    version = images.tags(image).get("preheat:version")
    if version is None and image["OwnerId"] != account:
        say(f"the tags of {wanted} cannot be seen, for it is another account's: is it of version {VERSION}?")
    elif version != VERSION:
        raise FactoryError(
            f"{wanted} is of version {version or 'unknown'}, and this is {VERSION}: the template and the AMI"
            " belong together",
            f"Build one with make ami, or check out the tag v{version}" if version else cure,
        )
    say(f"AMI {wanted}, {image.get('Name', '')}")
    return image


def check_buckets(settings: FleetSettings) -> None:
    """Require that the buckets named exist, in this region; EventBridge gets no events from another one."""
    s3 = client("s3", settings.region)
    for name in ("InputBucket", "OutputBucket"):
        if not (bucket := settings.parameters[name]):
            continue
        try:
            there = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            if code(error) == "404":
                raise FactoryError(
                    f"there is no bucket {bucket}, which {name} names",
                    f"Make it: aws s3 mb s3://{bucket} --region {settings.region}; or leave {name} out",
                ) from error
            there = error.response["ResponseMetadata"]["HTTPHeaders"]
            if code(error) == "403":
                raise FactoryError(
                    f"these AWS credentials may not look at the bucket {bucket}, which {name} names",
                    "Allow them s3:ListBucket on it (docs/fleet.md), and check that it is yours",
                ) from error
            if code(error) != "301":
                raise
        region = there.get("x-amz-bucket-region", settings.region)
        if region != settings.region:
            raise FactoryError(
                f"{name} names {bucket}, which is in {region}, and the fleet is in {settings.region}",
                f"Set region: {region}, or name a bucket in {settings.region}",
            )


def find_subnets(ec2: Client, settings: FleetSettings) -> list[dict[str, Any]]:
    """The subnets of the settings, or those of the default VPC. Raises FactoryError if there are none."""
    found = preflight.find_subnets(ec2, settings.region, settings.listed("Subnets"), "Subnets")
    if len(vpcs := {subnet["VpcId"] for subnet in found}) > 1:
        raise FactoryError(f"Subnets are in several VPCs: {', '.join(sorted(vpcs))}", "Name those of one")
    return sorted(found, key=lambda subnet: str(subnet["AvailabilityZone"]))


def check_types(
    ec2: Client, settings: FleetSettings, subnets: list[dict[str, Any]], image: images.Image
) -> list[dict[str, Any]]:
    """The instance types as EC2 describes them. FactoryError for one that no zone has, or without a GPU."""
    wanted = settings.listed("InstanceTypes")
    zones = sorted({subnet["AvailabilityZone"] for subnet in subnets})
    offered = preflight.find_offers(ec2, wanted)
    for name in wanted:
        if not any((name, zone) in offered for zone in zones):
            raise FactoryError(
                f"{name} is not offered in {', '.join(zones)}",
                "Leave it out of InstanceTypes, or name Subnets in other zones (see"
                " aws ec2 describe-instance-type-offerings)",
            )
    if without := [zone for zone in zones if not any((name, zone) in offered for name in wanted)]:
        say(f"none of the instance types is offered in {', '.join(without)}; going on with the other zones")
    found = ec2.describe_instance_types(InstanceTypes=wanted)["InstanceTypes"]
    described = sorted(found, key=lambda item: wanted.index(item["InstanceType"]))
    for item in described:
        if not item.get("GpuInfo") and images.tags(image).get("preheat:driver") != "none":
            raise FactoryError(
                f"{item['InstanceType']} has no GPU, and the AMI is made for one",
                "Leave it out of InstanceTypes, or set AmiParameter to an AMI for the CPU",
            )
    return described


def check_quota(settings: FleetSettings, types: list[dict[str, Any]]) -> None:
    """Require quotas that allow an instance of each type; say it if they allow fewer than MaxInstances."""
    quotas, most = client("service-quotas", settings.region), int(settings.parameters["MaxInstances"])
    spot = settings.parameters["OnDemand"] == "false"
    needed = {item["InstanceType"]: int(item["VCpuInfo"]["DefaultVCpus"]) for item in types}
    asked: dict[str, int | None] = {}  # by quota
    for name, vcpus in needed.items():
        if not (quota := preflight.quota_code(name, spot=spot)):
            continue
        if quota not in asked:
            asked[quota] = ask_quota(quotas, quota)
        if (allowed := asked[quota]) is None:
            continue
        cure = f"Ask for more: {preflight.increase(quota, most * vcpus, settings.region)}"
        kind = "spot" if spot else "on demand"
        if allowed < vcpus:
            raise FactoryError(
                f"the account may run {allowed} vCPUs of the family of {name} {kind} in {settings.region},"
                f" which has {vcpus}",
                f"{cure}; or set OnDemand: {str(spot).lower()}, which has a quota of its own",
            )
        if allowed < most * vcpus:
            say(f"the quota {quota} allows {allowed // vcpus} of {most} instances of {name}. {cure}")


def ask_quota(quotas: Client, quota: str) -> int | None:
    """The vCPUs that a quota allows; None, and said, if it cannot be read."""
    try:
        return int(quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota)["Quota"]["Value"])
    except ClientError as error:
        say(f"the quota {quota} cannot be read ({code(error)}); going on")
        return None


def check_roles(settings: FleetSettings) -> None:
    """Create the roles that Auto Scaling and spot instances act in, once an account, if they are missing."""
    iam = client("iam", settings.region)
    for role, service in ROLES.items():
        if role == SPOT and settings.parameters["OnDemand"] == "true":
            continue
        try:
            iam.get_role(RoleName=role)
        except ClientError as error:
            if code(error) != "NoSuchEntity":
                raise
            iam.create_service_linked_role(AWSServiceName=service)
            say(f"the account had no role {role} yet; it has been created")
