"""The booted artifact and S3: recordings of a phone and a camera, transcribed to a folder and a bucket.

S3 is moto's server on this host; the local machine shares the host's network.
"""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from testinfra.host import Host

from factory.ssh import Machine
from preheat.audio import audiofile
from preheat.formats import FORMATS
from tests.moto_server import moto_server
from tests.runtime.soundfiles import WRITERS

SHORT = Path(__file__).parent.parent / "fixtures/samples/short.flac"
RECORDINGS = ("talk.wav", "phone/call.m4a", "camera/film.mp4")
KEY = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of an S3 with the empty bucket `results`."""
    with moto_server() as address:
        yield address


def test_every_format_of_a_folder_in_both_places(
    host: Host, machine: Machine, endpoint: str, tmp_path: Path
) -> None:
    sound = audiofile.decode(SHORT).samples
    for name in RECORDINGS:
        machine.run(f"mkdir -p in/{Path(name).parent}")
        (tmp_path / "recording").write_bytes(WRITERS[Path(name).suffix[1:]](sound))
        machine.upload(tmp_path / "recording", f"in/{name}")
    s3 = boto3.session.Session(**KEY).client("s3", endpoint_url=endpoint)
    s3.create_bucket(Bucket="results")
    done = host.run(
        f"env AWS_ENDPOINT_URL={endpoint} AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret "
        "AWS_REGION=us-east-1 transcribe --quiet -f all -o out -o s3://results/out in"
    )
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")
    stems = [name.partition(".")[0] for name in RECORDINGS]
    wanted = {f"{stem}.{format_name}" for stem in stems for format_name in FORMATS}
    there = {each["Key"].removeprefix("out/") for each in s3.list_objects_v2(Bucket="results")["Contents"]}
    assert there == wanted
    for name in sorted(wanted):
        content = s3.get_object(Bucket="results", Key=f"out/{name}")["Body"].read().decode()
        assert host.file(f"out/{name}").content_string == content
    assert "zero" in host.file("out/phone/call.txt").content_string
