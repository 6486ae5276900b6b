"""Connections to AWS. boto3 and botocore are used only here, in s3.py and in s3errors.py.

boto3 takes a third of a second to import, so it is imported when it is first used. Credentials, region and
endpoint (AWS_ENDPOINT_URL) come from the usual places of AWS's tools.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from preheat.timing import reason


class AwsError(Exception):
    """A failed request to a service other than S3, in one line; `code`: AWS's, or boto3's class name."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def client(service: str, **settings: Any) -> Any:
    """A connection to a service, for all threads; `settings`: botocore's. Raises botocore's errors."""
    import boto3  # noqa: PLC0415  not before it is used
    from botocore.config import Config  # noqa: PLC0415  as above

    region = os.environ.get("AWS_REGION")  # boto3 ignores it, other AWS tools do not
    return boto3.session.Session(region_name=region).client(service, config=Config(**settings))


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn boto3's errors in the block into AwsError; `what`: what was asked for."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  there by now

    try:
        yield
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        raise AwsError(str(code), f"{what}: {code}: {said.strip().rstrip('.')}") from error
    except BotoCoreError as error:
        raise AwsError(type(error).__name__, f"{what}: {reason(error)}") from error
