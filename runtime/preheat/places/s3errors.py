"""Turns errors of S3 and boto3 into one line with the cause and the cure."""

from typing import Any

from preheat.storage import InputError
from preheat.timing import reason

DENIED = ("AccessDenied", "AllAccessDisabled", "403")
MISSING = ("NoSuchKey", "404")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")  # IfNoneMatch or IfMatch failed
REPLACED = ("PreconditionFailed", "412", "S3DownloadFailedError")  # an object, while it was fetched

LOGIN = (
    "log in or set AWS_PROFILE, or give the instance a role; `aws sts get-caller-identity` shows who you are"
)
CLOCK = "this machine's clock is wrong; check it with timedatectl"
EXPIRED = f"the credentials have expired; {LOGIN}"
BUSY = "S3 is overloaded or throttles, also after retries; try again with --skip_existing"
CHANGED = "has changed in the meantime; try again"
NETWORK = "check the network, AWS_ENDPOINT_URL and HTTPS_PROXY"
REFUSED = "access is denied; ask for s3:GetObject, s3:PutObject and s3:ListBucket on it, or set AWS_PROFILE"
CODES = {  # S3's error codes; for HEAD requests, HTTP status codes
    "NoSuchBucket": "there is no such bucket; check the name and AWS_PROFILE",
    "NoSuchKey": "there is no such object; check the key",
    "404": "there is no such object; check the key",
    "NoSuchVersion": "there is no such object; check the key",
    "InvalidBucketName": "is not a valid bucket name; check it",
    "AccessDenied": REFUSED,
    "403": REFUSED,
    "AllAccessDisabled": "all access to it is disabled; ask AWS support",
    "AccountProblem": "there is a problem with the AWS account; ask AWS support",
    "InvalidAccessKeyId": f"AWS does not know the access key; {LOGIN}",
    "SignatureDoesNotMatch": "the secret key does not match the access key; set AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": EXPIRED,
    "InvalidToken": f"AWS does not know the session token; {LOGIN}",
    "TokenRefreshRequired": EXPIRED,
    "RequestTimeTooSkewed": CLOCK,
    "RequestExpired": CLOCK,
    "InvalidObjectState": "it is archived (Glacier); restore it first: aws s3api restore-object",
    "PreconditionFailed": CHANGED,
    "412": CHANGED,
    "ConditionalRequestConflict": "another request is writing to it; try again",
    "SlowDown": BUSY,
    "ServiceUnavailable": BUSY,
    "503": BUSY,
    "500": BUSY,
    "InternalError": BUSY,
    "RequestTimeout": BUSY,
    "KMS.DisabledException": "its KMS key is disabled; enable it, or use another",
    "KMS.NotFoundException": "its KMS key does not exist; ask the bucket's owner",
}
REGIONS = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
CLASSES = {  # boto3's exceptions, by the names of their classes
    "NoCredentialsError": f"there are no AWS credentials; {LOGIN}",
    "PartialCredentialsError": "the AWS credentials are incomplete; set the access key and the secret key",
    "CredentialRetrievalError": f"the AWS credentials cannot be loaded; {LOGIN}",
    "ProfileNotFound": "there is no such profile; set AWS_PROFILE to one of `aws configure list-profiles`",
    "TokenRetrievalError": EXPIRED,
    "SSOError": EXPIRED,
    "LoginError": EXPIRED,
    "InvalidRegionError": "the region is not valid; set AWS_REGION, for instance to eu-west-1",
    "NoRegionError": "no region is set; set AWS_REGION, for instance to eu-west-1",
    "SSLError": "its certificate is not trusted; set AWS_CA_BUNDLE",
    "ProxyConnectionError": f"cannot connect to the proxy; {NETWORK}",
    "ConnectionError": f"cannot connect; {NETWORK}",
    "HTTPClientError": f"the connection failed, also after retries; {NETWORK}",
    "IncompleteReadError": f"the connection failed, also after retries; {NETWORK}",
    "FlexibleChecksumError": "the checksum of the transfer does not match; try again",
    "S3DownloadFailedError": CHANGED,
    "RetriesExceededError": f"the connection failed, also after retries; {NETWORK}",
}


class S3Error(InputError):
    """A failed request, in one line with cause and cure; `code`: S3's error code, or boto3's class name."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def explained(error: Exception) -> S3Error:
    """The S3Error for one of boto3's errors."""
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    if answer:
        code = str(answer["Error"]["Code"])
        said = str(answer["Error"].get("Message", "")).strip().rstrip(".")
        if code in REGIONS:
            headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = answer["Error"].get("Region") or headers.get("x-amz-bucket-region", "the bucket's own")
            return S3Error(code, f"the bucket is in another region; set AWS_REGION to {region}")
        if code in DENIED and "kms" in said.lower():
            return S3Error(
                code, f"access to its KMS key is denied: {said}; ask for kms:Decrypt and kms:GenerateDataKey"
            )
        return S3Error(
            code, CODES.get(code) or f"S3 answered {code}: {said}; look up the code, and try again"
        )
    names = [each.__name__ for each in type(error).__mro__]
    cause = getattr(error, "last_exception", None)
    if names[0] == "RetriesExceededError" and cause is not None:
        names = [*(each.__name__ for each in type(cause).__mro__), *names]
    cure = next((CLASSES[name] for name in names if name in CLASSES), None)
    return S3Error(names[0], cure or f"{reason(error)}; check your AWS settings")
