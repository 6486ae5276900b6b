"""Whether Auto Scaling may use the KMS key that an AMI is encrypted with; without, no instance ever starts.

It launches in its service-linked role, whose own policy has nothing on keys: the key's policy or a grant must
name the role. With AWS's own key for volumes there is nothing to do.
"""

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from factory.console import FactoryError, say
from factory.ec2 import images
from factory.ec2.aws import DENIED, Client, client, code

ROLE = "arn:aws:iam::{}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
OPERATIONS = (
    *("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey"),
    *("GenerateDataKeyWithoutPlaintext", "DescribeKey", "CreateGrant"),
)
NEEDED = {"CreateGrant", "Decrypt"}  # of these a grant to Auto Scaling has all or none, in practice


def check_key(ec2: Client, region: str, image: images.Image, account: str) -> None:
    """Require that Auto Scaling may use the keys of an AMI; FactoryError with the command that allows it."""
    ids = images.snapshots(image)
    for snapshot in ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"] if ids else []:
        if key := snapshot.get("KmsKeyId"):
            check_one(client("kms", region), key, region, ROLE.format(account))


def check_one(kms: Client, key: str, region: str, role: str) -> None:
    """Require that the role may use a key."""
    described = tolerant(lambda: kms.describe_key(KeyId=key)["KeyMetadata"], key)
    if not described or described["KeyManager"] == "AWS":
        return
    if not described["Enabled"]:
        cure = f"Enable it: aws kms enable-key --key-id {key} --region {region}"
        raise FactoryError(f"the AMI is encrypted with the key {key}, which is disabled", cure)
    policy = tolerant(lambda: kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"], key)
    grants = tolerant(lambda: kms.list_grants(KeyId=key, GranteePrincipal=role)["Grants"], key)
    if policy is None or grants is None or granted(grants, role) or named_in(json.loads(policy), role):
        return
    raise FactoryError(
        f"Auto Scaling may not use {key}, the key of the encrypted AMI: no instance would ever start",
        f"Grant it: aws kms create-grant --key-id {key} --region {region} --grantee-principal {role}"
        f" --operations {' '.join(OPERATIONS)}",
    )


def tolerant(call: Callable[[], Any], key: str) -> Any:
    """What a call returns; None, and said, if it is not allowed: the key may be another account's."""
    try:
        return call()
    except ClientError as error:
        if code(error) not in DENIED:
            raise
        say(f"whether Auto Scaling may use the key {key} cannot be read ({error.operation_name}); going on")
        return None


def granted(grants: list[dict[str, Any]], role: str) -> bool:
    """Whether a grant allows the role to use the key."""
    return any(grant["GranteePrincipal"] == role and set(grant["Operations"]) >= NEEDED for grant in grants)


def named_in(policy: dict[str, Any], role: str) -> bool:
    """Whether a key's policy allows something to the role by its name, or to everybody on a condition."""
    for statement in policy["Statement"]:
        principals = statement.get("Principal", {})
        names = principals.get("AWS", []) if isinstance(principals, dict) else principals
        if statement["Effect"] == "Allow" and {"*", role} & set([names] if isinstance(names, str) else names):
            return True
    return False
