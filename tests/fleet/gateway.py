"""What an instance reaches AWS through: a proxy that knows the calls, and can delay, refuse or lose them."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from tests.runtime.places.proxy import Proxy, Trouble

COMPLETED = (
    b'<CompleteLifecycleActionResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
    b"<CompleteLifecycleActionResult/></CompleteLifecycleActionResponse>"
)
TOO_FEW = (
    b"<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>Terminating the instance "
    b"would reduce the desired capacity below the minimum.</Message></Error></ErrorResponse>"
)
CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/aws4_request")
TAKING_TURNS = Lock()  # S3 decides conditional writes one after the other; moto's threads would not


@dataclass(frozen=True)
class Call:
    """One call to AWS."""

    service: str  # as in its endpoint's name: s3, sqs, autoscaling, logs
    action: str  # of S3: the HTTP method
    key: str  # of S3: bucket/key
    access_key: str
    headers: dict[str, str]  # by lower-case names
    body: str

    @property
    def name(self) -> str:
        """Service and action."""
        return f"{self.service}:{self.action}"


def call(handler: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> Call:
    """The call in a request."""
    lower = {name.lower(): value for name, value in headers.items()}
    access_key, service = CREDENTIAL.findall(lower.get("authorization", ""))[0]
    text = body.decode(errors="replace")
    if target := lower.get("x-amz-target"):
        action = target.rpartition(".")[2]
    else:
        action = handler.command if service == "s3" else parse_qs(text)["Action"][0]
    key = unquote(urlsplit(handler.path).path)[1:] if service == "s3" else ""
    return Call(service, action, key, access_key, lower, text)


def refused(this: Call) -> bool:
    """Whether an instance would leave its group wanting fewer than it may; moto would do it."""
    if this.action != "TerminateInstanceInAutoScalingGroup":
        return False
    asked = parse_qs(this.body)
    return asked["ShouldDecrementDesiredCapacity"] == ["true"] and any(
        (group.desired_capacity or 0) <= (group.min_size or 0)
        for region in get_backend("autoscaling")[DEFAULT_ACCOUNT_ID].values()
        for group in region.autoscaling_groups.values()
        for state in group.instance_states
        if state.instance.id == asked["InstanceId"][0]
    )


@dataclass
class Gateway(Proxy):
    """The proxy, a context manager."""

    before: Callable[[Call], Trouble | None] = lambda _: None  # AWS gets it
    after: Callable[[Call], None] = lambda _: None  # AWS has done it, and before the worker hears of it
    calls: list[Call] = field(default_factory=list)
    poll: int | None = 1  # s, that moto waits for messages; it goes on when the worker that asked is dead
    sizes: dict[str, int] = field(default_factory=dict)  # bytes, that objects claim to have, by bucket/key
    received: set[str] = field(default_factory=set)  # ids of messages
    written: Counter[str] = field(default_factory=Counter)  # how often each object, as bucket/key

    def named(self, name: str) -> list[Call]:
        """The calls of an action so far, such as sqs:DeleteMessage."""
        return [call for call in self.calls if call.name == name]

    def _answer(
        self, handler: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes, trouble: Trouble
    ) -> None:
        this = call(handler, headers, body)
        self.calls.append(this)
        if this.action == "CompleteLifecycleAction":  # which moto lacks
            trouble = Trouble(status=200, body=COMPLETED)
        if refused(this):
            trouble = Trouble(status=400, body=TOO_FEW)
        super()._answer(handler, headers, body, self.before(this) or trouble)

    def _pass_on(
        self, handler: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        this = call(handler, headers, body)
        if this.name == "s3:PUT":
            with TAKING_TURNS:
                answer = super()._pass_on(handler, headers, body)
                self.written[this.key] += answer[0] == HTTPStatus.OK
        else:
            if this.action == "ReceiveMessage" and self.poll:
                body = json.dumps(json.loads(body) | {"WaitTimeSeconds": self.poll}).encode()
                headers = headers | {"Content-Length": str(len(body))}
            answer = super()._pass_on(handler, headers, body)
            if this.action == "ReceiveMessage":
                self.received |= {each["MessageId"] for each in json.loads(answer[2]).get("Messages", ())}
        self.after(this)
        status, given, content = answer
        if this.name == "s3:HEAD" and this.key in self.sizes:
            given["Content-Length"] = str(self.sizes[this.key])
        return status, given, content
