"""The metadata service of an instance (IMDSv2), with answers that a test may change at any time."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests import loopback

TOKEN = "token-of-this-test"  # noqa: S105
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
ROLE = "iam/security-credentials/"


def instant(seconds: float = 0.0) -> str:
    """A time so many seconds from now, as AWS writes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class MetadataServer(loopback.Loopback):
    """The service, a context manager. `answers`: by the path below meta-data or latest; others are 404."""

    answers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # paths, in order
    down: bool = False  # answers 503 to everything
    refused: int = 0  # requests while it was down
    url: str = ""

    def handler(self) -> type[loopback.Handler]:
        """See Loopback."""
        service = self

        class Handler(loopback.Handler):
            def do_PUT(self) -> None:  # noqa: N802  the library's name
                lifetime = self.headers.get(TTL, "")
                fit = self.path == "/latest/api/token" and lifetime.isdigit() and 0 < int(lifetime) <= 21600
                self.reply(200 if fit else 400, TOKEN if fit else "")

            def do_GET(self) -> None:  # noqa: N802  as above
                path = self.path.removeprefix("/latest/").removeprefix("meta-data/")
                service.asked.append(path)
                if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
                    self.reply(401, "")
                elif path in service.answers:
                    self.reply(200, service.answers[path])
                else:
                    self.reply(404, "")

            def reply(self, status: int, text: str) -> None:
                content = text.encode()
                service.refused += service.down
                self.send_response_only(503 if service.down else status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler

    def grant(self, access_key: str, seconds: float) -> None:
        """Give credentials that expire in so many seconds, in place of the earlier ones."""
        self.answers[ROLE] = "worker"
        self.answers[ROLE + "worker"] = json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": access_key,
                "SecretAccessKey": "secret",
                "Token": f"session of {access_key}",
                "LastUpdated": instant(),
                "Expiration": instant(seconds),
            }
        )

    def interrupt(self, seconds: float) -> None:
        """Give notice that EC2 takes this spot instance back in so many seconds."""
        self.answers["spot/instance-action"] = json.dumps({"action": "terminate", "time": instant(seconds)})
