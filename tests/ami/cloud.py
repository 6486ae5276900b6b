"""EC2, SSM and STS for the tests: moto's server, whose every request is recorded.

A test can inspect a request, interrupt a process when one comes, or answer instead of AWS. What `make ami`
needs but moto lacks is added here: the deprecation date, IMDSv2 on an AMI, quotas, tags on creation, and
deletion of an AMI's snapshots with it. The builder is refused what docs/builder-policy.json does not allow.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlencode

import boto3
from moto.backends import get_backend
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from factory.console import ROOT
from tests.ami import birth
from tests.ami.calls import ACCOUNT, questions
from tests.ami.iam import Policy, Question, Statement, UnknownError, allows

DEBIAN = "136693071363"
HOME, ABROAD = "us-east-1", "eu-west-1"
BUILDER = "builder"  # access key of the user who has only the builder's policy
POLICY = json.loads((ROOT / "docs/builder-policy.json").read_text())

XML, JSON = "text/xml", "application/x-amz-json-1.1"
REFUSED = (
    "<Response><Errors><Error><Code>{0.code}</Code><Message>{0.message}</Message></Error></Errors>"
    "<Error><Code>{0.code}</Code><Message>{0.message}</Message></Error><RequestID>1</RequestID></Response>"
)
DONE = '<Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><return>true</return></Response>'


@dataclass(frozen=True)
class Request:
    """One call: the service and action as IAM names them, the region, the parameters, who makes it."""

    action: str
    region: str
    parameters: dict[str, Any]
    access_key: str = ""

    @property
    def rehearsed(self) -> bool:
        """Whether it is a dry run."""
        return self.parameters.get("DryRun") == "true"


@dataclass(frozen=True)
class Refusal:
    """An error in AWS's words."""

    code: str
    message: str = "as the test wants it"
    status: int = 400


Hook = Callable[[Request], Refusal | str | None]  # returns an error, an answer, or None to let moto answer
Questions = Callable[[str, str, dict[str, Any], Callable[[str, str], dict[str, str]]], Iterable[Question]]


@dataclass
class Cloud:
    """The server; `url` is what AWS_ENDPOINT_URL is set to."""

    url: str = ""
    policy: Policy = field(default_factory=lambda: POLICY)  # what the builder may do
    questions: Questions = questions  # the permissions that a call needs
    quota: float = 64.0  # vCPUs of every family
    requests: list[Request] = field(default_factory=list)
    before: dict[str, Hook] = field(default_factory=dict)  # by action
    after: dict[str, Hook] = field(default_factory=dict)
    granted: list[Statement] = field(default_factory=list)  # added to the policy, as docs/ami.md describes
    denied: list[str] = field(default_factory=list)  # requests that the policy did not allow
    moto: DomainDispatcherApplication = field(
        default_factory=lambda: DomainDispatcherApplication(create_backend_app)
    )

    def reset(self) -> None:
        """Reset: no instances, no AMIs but Debian's, no hooks."""
        moto_api_backend.reset()
        self.requests.clear()
        self.before.clear()
        self.after.clear()
        self.denied.clear()
        self.granted.clear()
        self.quota = 64.0

    def calls(self, action: str) -> list[Request]:
        """The requests for an action so far, without dry runs."""
        return [request for request in self.requests if request.action == action and not request.rehearsed]

    def client(self, service: str, region: str = HOME, access_key: str = "testing") -> Any:
        """A client for the test itself, or with the access key BUILDER for the builder."""
        keys = {"aws_access_key_id": access_key, "aws_secret_access_key": "testing"}
        return boto3.client(service, region_name=region, endpoint_url=self.url, **keys)

    def public_key(self, name: str, region: str = HOME) -> str:
        """The public half of a key pair, which EC2 puts on an instance that is launched with it."""
        key: str = get_backend("ec2")[ACCOUNT][region].key_pairs[name].public_key
        return key.strip()

    def set_state(self, state: str, region: str = HOME) -> None:
        """Set the state of the account's AMIs in a region: pending, as for the first minutes, or failed."""
        amis = get_backend("ec2")[ACCOUNT][region].amis
        for image in self.own_amis(region):
            amis[image["ImageId"]].state = state

    def leftovers(self) -> list[str]:
        """What a build must not leave: instances, volumes, key pairs, security groups, orphaned snapshots."""
        ec2 = self.client("ec2")
        instances = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        groups = ec2.describe_security_groups()["SecurityGroups"]
        kept = {disk["Ebs"]["SnapshotId"] for ami in self.own_amis() for disk in ami["BlockDeviceMappings"]}
        made = [{"Name": "description", "Values": ["Created by CreateImage*"]}]  # moto makes some for itself
        snapshots = {item["SnapshotId"] for item in ec2.describe_snapshots(Filters=made)["Snapshots"]}
        return [
            *(i["InstanceId"] for i in instances if i["State"]["Name"] != "terminated"),
            *(volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]),
            *(key["KeyName"] for key in ec2.describe_key_pairs()["KeyPairs"]),
            *(group["GroupName"] for group in groups if group["GroupName"] != "default"),
            *(item["LaunchTemplateName"] for item in ec2.describe_launch_templates()["LaunchTemplates"]),
            *(snapshots - kept),
        ]

    def own_amis(self, region: str = HOME) -> list[dict[str, Any]]:
        """The AMIs of the account."""
        found: list[dict[str, Any]] = self.client("ec2", region).describe_images(Owners=["self"])["Images"]
        return found

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, as a WSGI application."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        request = parsed(environ, body)
        if request.action == "ec2:CreateImage":
            body = urlencode(birth.without_snapshot_tags(request.parameters)).encode()
            environ["CONTENT_LENGTH"] = str(len(body))
            tags = self.tags(request.region, request.parameters["InstanceId"])
            request = replace(request, parameters=birth.with_run_tags(request.parameters, tags))
        environ["wsgi.input"] = BytesIO(body)
        self.requests.append(request)
        hook = self.before.get(f"{request.action} DryRun" if request.rehearsed else request.action)
        told = self.judged(request) or (hook(request) if hook else None)
        if request.rehearsed and not told:
            told = Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        if isinstance(told, Refusal):
            return answer(start, told.status, refused(request, told))
        own = told or self.own_answer(request)
        orphans = self.deleted_with(request)
        reply = answer(start, 200, own) if own else list(self.moto(environ, start))
        for snapshot in orphans:
            get_backend("ec2")[ACCOUNT][request.region].delete_snapshot(snapshot)
        birth.tag(get_backend("ec2")[ACCOUNT][request.region], request.action, request.parameters)
        if request.action in self.after:
            self.after[request.action](request)
        return reply

    def tags(self, region: str, name: str) -> dict[str, str]:
        """The current tags of a resource."""
        return dict(get_backend("ec2")[ACCOUNT][region].tags.get(name, {}))

    def judged(self, request: Request) -> Refusal | None:
        """The error if the policy does not allow a call by the builder; else None."""
        if request.access_key != BUILDER:
            return None
        also = [("ec2:DeleteSnapshot", {"SnapshotId": name}) for name in self.deleted_with(request)]
        try:
            asked = [
                question
                for action, parameters in [(request.action, request.parameters), *also]
                for question in self.questions(action, request.region, parameters, self.tags)
            ]
            policy = {**self.policy, "Statement": [*self.policy["Statement"], *self.granted]}
            denied = [str(question) for question in asked if not allows(policy, question)]
        except UnknownError as error:
            denied = [f"not known here: {error}"]
        self.denied += denied
        if not denied:
            return None
        name = "UnauthorizedOperation" if request.action.startswith("ec2:") else "AccessDeniedException"
        return Refusal(name, f"the policy does not allow {denied[0]}", 403)

    def deleted_with(self, request: Request) -> list[str]:
        """The snapshots to delete with an AMI, if the request asks for that; moto keeps them."""
        if request.action != "ec2:DeregisterImage" or "DeleteAssociatedSnapshots" not in request.parameters:
            return []
        ami = get_backend("ec2")[ACCOUNT][request.region].amis.get(request.parameters["ImageId"])
        return [ami.ebs_snapshot.id] if ami and ami.state != "pending" else []

    def own_answer(self, request: Request) -> str | None:
        """Our answer to requests that moto does not support."""
        if request.action == "servicequotas:GetServiceQuota":
            return json.dumps({"Quota": {"Value": self.quota}})
        if request.action == "ec2:EnableImageDeprecation" or "ImdsSupport.Value" in request.parameters:
            return DONE
        return None


def parsed(environ: dict[str, Any], body: bytes) -> Request:
    """Parse a request: S3 uses paths, EC2 and others forms, the rest JSON and a header with the action."""
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    region, service = scope[2:4] if len(scope) > 3 else ("", "")
    if service == "s3":
        action, parameters = of_s3(environ)
    elif target := environ.get("HTTP_X_AMZ_TARGET"):
        action, parameters = target.rpartition(".")[2], json.loads(body or b"{}")
    else:
        parameters = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        action = parameters.get("Action", "")
    return Request(f"{service}:{action}", region, parameters, scope[0])


def of_s3(environ: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The action and the bucket and key of a request to S3, with the bucket in its path."""
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    detail = sorted(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    return " ".join([environ["REQUEST_METHOD"], *detail]), {"Bucket": bucket, "Key": key}


def refused(request: Request, refusal: Refusal) -> str:
    """An error in the form of the service."""
    if request.action.startswith(("ssm:", "servicequotas:", "kms:", "logs:", "sqs:")):
        return json.dumps({"__type": refusal.code, "message": refusal.message})
    return REFUSED.format(refusal)


def answer(start: Callable[..., Any], status: int, text: str) -> list[bytes]:
    """Answer a request with a status and a text."""
    start(f"{status} as told", [("Content-Type", XML if text.startswith("<") else JSON)])
    return [text.encode()]


@contextmanager
def served(cloud: Cloud | None = None) -> Iterator[Cloud]:
    """A cloud that answers on a loopback port."""
    cloud = cloud or Cloud()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, cloud, threaded=True, request_handler=MotoRequestHandler)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        thread.join()
