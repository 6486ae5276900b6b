"""AWS clients, and AWS's errors as messages that say what to do."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from factory.console import FactoryError

Client = Any  # boto3 generates its clients at run time, without types

POLICY, PAGE = "docs/builder-policy.json", "docs/ami.md"
SIGN_IN = "Sign in again (aws sso login), or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN = {
    *("AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"),
    "IncompleteSignature",
}
CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
PAUSE, TRIES = 2.0, 60  # seconds between two requests while polling, and how many of them

DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}


def endpoint() -> str:
    """The address of a stand-in for EC2, from the variables of AWS's SDKs; empty for EC2 itself."""
    return os.environ.get("AWS_ENDPOINT_URL_EC2") or os.environ.get("AWS_ENDPOINT_URL") or ""


def client(service: str, region: str) -> Client:
    """A client that backs off and retries when AWS throttles it."""
    return boto3.client(
        service, region_name=region, config=Config(retries={"mode": "standard", "max_attempts": 6})
    )


def account_of(region: str) -> str:
    """The id of the account that the credentials belong to."""
    return str(client("sts", region).get_caller_identity()["Account"])


def code(error: ClientError) -> str:
    """AWS's name for what went wrong, such as InvalidAMIID.NotFound."""
    name: str = error.response["Error"]["Code"]
    return name


def patiently(call: Callable[..., Any], *codes: str, **parameters: Any) -> Any:
    """Retry a call while it fails with one of these codes: AWS may not see yet what it has just made."""
    for _ in range(TRIES):
        try:
            return call(**parameters)
        except ClientError as error:
            if code(error) not in codes:
                raise
        time.sleep(PAUSE)
    return call(**parameters)


@contextmanager
def explained(policy: str = POLICY, page: str = PAGE) -> Iterator[None]:
    """Turn errors of boto3 into a FactoryError. `policy`: what the credentials need (see the page)."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise explain(error, policy, page) from error


def explain(error: ClientError | BotoCoreError, policy: str = POLICY, page: str = PAGE) -> FactoryError:
    """What went wrong, and what to do about it."""
    if isinstance(error, ClientError):
        return refused(error, policy, page)
    if isinstance(error, CREDENTIALS):
        return FactoryError(f"there are no AWS credentials: {error}", SIGN_IN)
    return FactoryError(f"AWS does not answer: {error}", "Check the network and the name of the region")


def refused(error: ClientError, policy: str, page: str) -> FactoryError:
    """What AWS has refused to do, and what to do about it."""
    said = error.response["Error"].get("Message", "")
    if code(error) in EXPIRED:
        return FactoryError("the AWS credentials have expired", SIGN_IN)
    if code(error) in UNKNOWN:
        return FactoryError(f"AWS does not know these credentials ({code(error)}: {said})", SIGN_IN)
    if code(error) in DENIED:
        return FactoryError(
            f"these AWS credentials are not allowed to do {error.operation_name}: {said}",
            f"Attach the policy {policy} to them ({page}, 'The policy')",
        )
    return FactoryError(f"AWS refused {error.operation_name} ({code(error)}): {said}", "Run it again")
