"""Import what the fleet's worker imports, and make its connections to AWS, which are not used."""

from preheat.fleet import command  # noqa: F401  its import is what counts
from preheat.places import aws

for service in ("s3", "sqs", "logs", "autoscaling"):
    aws.client(service)
