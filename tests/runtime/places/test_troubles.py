"""S3 on a bad day: for each common mistake the message names the cure; transient errors are retried."""

import os
import socket
from collections import Counter
from pathlib import Path

import botocore.exceptions
import numpy as np
import pytest
import s3transfer.exceptions
import soundfile

from preheat.audio.constants import SAMPLE_RATE
from preheat.places import s3, sources
from preheat.places.s3errors import CLASSES, explained
from preheat.storage import InputError
from tests.runtime.console import Run, errors
from tests.runtime.places.conftest import Bucket
from tests.runtime.places.proxy import Proxy, Trouble

# AWS's error answers with a body; answers to HEAD have only the status.
ANSWERS = {
    "AccessDenied": (403, "access is denied; ask for s3:GetObject, s3:PutObject and s3:ListBucket"),
    "InvalidAccessKeyId": (403, "AWS does not know the access key; log in or set AWS_PROFILE"),
    "SignatureDoesNotMatch": (403, "the secret key does not match the access key; set AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": (400, "the credentials have expired; log in"),
    "RequestTimeTooSkewed": (403, "this machine's clock is wrong; check it with timedatectl"),
    "NoSuchBucket": (404, "there is no such bucket; check the name and AWS_PROFILE"),
    "NoSuchKey": (404, "there is no such object; check the key"),
    "InvalidObjectState": (403, "it is archived (Glacier); restore it first: aws s3api restore-object"),
    "IllegalLocationConstraintException": (
        400,
        "the bucket is in another region; set AWS_REGION to the bucket's own",
    ),
    "AuthorizationHeaderMalformed": (400, "the bucket is in another region; set AWS_REGION to eu-west-1"),
    "Unheard": (400, "S3 answered Unheard: as the test wants it; look up the code, and try again"),
}


def refusal(code: str, status: int) -> Trouble:
    more = "<Region>eu-west-1</Region>" if code == "AuthorizationHeaderMalformed" else ""
    body = f"<Error><Code>{code}</Code><Message>as the test wants it</Message>{more}</Error>"
    return Trouble(status=status, body=body.encode())


@pytest.mark.parametrize("code", ANSWERS)
def test_what_s3_refuses(code: str, main: Run, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    """An error for every key is wrong usage, before anything is loaded; one for an object fails only it."""
    bucket.put("a.flac", b"recording")
    status, cure = ANSWERS[code]
    proxy.trouble = lambda *_: refusal(code, status)
    done = main("s3://recordings/a.flac", samples / "short.flac")
    (line,) = [line for line in errors(done) if "short.flac" not in line]
    assert line.startswith(f"transcribe: s3://recordings/a.flac: {cure}")
    alone = code == "AccessDenied"  # without permission to list, one may still read
    assert done.returncode == (1 if alone else 2)
    assert ("zero" in done.stdout) == alone
    proxy.trouble = lambda _, path, __: (
        refusal(code, status) if path.startswith("/recordings/a.flac") else None
    )
    s3.client.cache_clear()
    done = main("s3://recordings/a.flac", samples / "short.flac")
    (line,) = errors(done)
    if status != 404:  # there is none, then
        assert line.startswith(f"transcribe: s3://recordings/a.flac: {cure}")
    assert done.returncode == 1 and "zero" in done.stdout


def test_who_may_only_write(main: Run, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    proxy.trouble = lambda method, *_: None if method == "PUT" else refusal("AccessDenied", 403)
    done = main("-o", "s3://recordings/", samples / "short.flac")
    assert (done.returncode, errors(done)) == (0, [])
    assert sorted(bucket.contents()) == ["short.json", "short.txt"]


SETTINGS: dict[str, tuple[dict[str, str | None], str]] = {
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        "there are no AWS credentials; log in",
    ),
    "half of them": ({"AWS_SECRET_ACCESS_KEY": None}, "the AWS credentials are incomplete; set the access"),
    "no profile": (
        {"AWS_PROFILE": "mine"},
        "there is no such profile; set AWS_PROFILE to one of `aws",
    ),
    "no region": (
        {"AWS_REGION": "mars 1"},
        "the region is not valid; set AWS_REGION, for instance to eu-west-1",
    ),
    "no endpoint": (
        {"AWS_ENDPOINT_URL": "nowhere"},
        "Invalid endpoint: nowhere; check your AWS settings",
    ),
    "nobody there": (
        {"AWS_ENDPOINT_URL": None},
        "cannot connect; check the network, AWS_ENDPOINT_URL",
    ),
    "no bucket": ({}, "there is no such bucket; check the name and AWS_PROFILE"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_wrong_settings(
    case: str, main: Run, bucket: Bucket, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For inputs and outputs: wrong usage, in one line, before anything is loaded."""
    del bucket
    settings, cure = SETTINGS[case]
    for name, value in settings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    if case == "nobody there":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr(s3, "ATTEMPTS", 2)
    for arguments in (["s3://mybucket/a.wav"], ["-o", "s3://mybucket/out/", str(samples / "short.flac")]):
        s3.client.cache_clear()
        done = main(*arguments)
        (line,) = errors(done)
        assert (done.returncode, done.stdout) == (2, "")
        assert cure in line and "\n" not in line


def test_every_class_is_one_of_theirs() -> None:
    """With a wrong class name, an error's message would never be used."""
    for name in CLASSES:
        kind = getattr(botocore.exceptions, name, None) or getattr(s3transfer.exceptions, name)
        assert issubclass(kind, Exception)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A recording of several ranges: 20 MB of noise without speech."""
    noise = np.random.default_rng(0).normal(0, 1e-3, 330 * SAMPLE_RATE)
    soundfile.write(tmp_path / "large.wav", noise, SAMPLE_RATE, subtype="FLOAT")
    return tmp_path / "large.wav"


def fetched(name: str) -> bytes:
    with sources.Object(s3.location(f"s3://recordings/{name}")).open() as file:
        return file.read()


def test_ranges_side_by_side(bucket: Bucket, proxy: Proxy, large: Path) -> None:
    """All of one version."""
    bucket.put("large", large.read_bytes())
    proxy.trouble = lambda *_: Trouble(wait=0.3)
    assert fetched("large") == large.read_bytes()
    ranges = [headers.get("range") for method, _, headers in proxy.requests if method == "GET"]
    assert len(ranges) == 3 and proxy.most == 3
    tags = [headers.get("if-match") for method, _, headers in proxy.requests if method == "GET"]
    assert tags == [bucket.get("large")["ETag"]] * 3


def test_it_changes_meanwhile(bucket: Bucket, proxy: Proxy, large: Path) -> None:
    bucket.put("large", large.read_bytes())

    def change(*_: object) -> None:
        if len(proxy.requests) == 2:
            bucket.put("large", large.read_bytes()[::-1])

    proxy.trouble = change
    with pytest.raises(InputError, match="has changed in the meantime; try again"):
        fetched("large")


def test_it_goes_away_meanwhile(main: Run, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    """It exists at the first check, but no longer when its turn comes."""
    bucket.put("a.flac", b"recording")

    def go(method: str, *_: object) -> None:
        if method == "HEAD":
            pass
        elif "/a.flac" in proxy.requests[-1][1]:
            bucket.client.delete_object(Bucket="recordings", Key="a.flac")

    proxy.trouble = go
    done = main("s3://recordings/a.flac", samples / "short.flac")
    (line,) = errors(done)
    assert line == "transcribe: s3://recordings/a.flac: there is no such object; check the key"
    assert done.returncode == 1 and "zero" in done.stdout


def test_throttled_and_broken(  # noqa: PLR0913, PLR0917  fixtures
    main: Run, bucket: Bucket, proxy: Proxy, samples: Path, large: Path, tmp_path: Path
) -> None:
    """Each request is refused once, then cut off once; what is read and written is complete."""
    bucket.put("in/large.wav", large.read_bytes())
    bucket.put("in/short.flac", (samples / "short.flac").read_bytes())
    seen: Counter[str] = Counter()

    def trouble(method: str, path: str, headers: dict[str, str]) -> Trouble | None:
        each = f"{method} {path} {headers.get('range')}"
        seen[each] += 1
        if seen[each] == 1:
            return Trouble(status=503)
        return Trouble(keep=0.5) if seen[each] == 2 and method == "GET" and "list-type" not in path else None

    proxy.trouble = trouble
    out = ["-o", tmp_path / "out", "-o", "s3://recordings/out"]
    done = main("--skip_existing", *out, "s3://recordings/in/", samples / "noise.flac")
    assert (done.returncode, errors(done)) == (0, [])
    assert set(bucket.contents("out/")) == {
        f"{name}.{kind}" for name in ("large", "noise", "short") for kind in ("txt", "json")
    }
    assert bucket.contents("out/")["short.txt"] == (tmp_path / "out/short.txt").read_text() != ""
    assert all(count >= 2 for count in seen.values())


def test_broken_for_good(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    bucket.put("a", b"recording" * 1000)
    for trouble, words in (
        (
            Trouble(status=503),
            "S3 is overloaded or throttles, also after retries; try again with --skip_existing",
        ),
        (Trouble(keep=0.5), "the connection failed, also after retries; check the network"),
    ):
        proxy.trouble = lambda *_, trouble=trouble: trouble
        s3.client.cache_clear()
        with pytest.raises(InputError, match=words):
            fetched("a")


def test_fetched_while_others_are_done(main: Run, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    """Several ahead, so that a slow network delays only once."""
    for name in "abcd":
        bucket.put(f"in/{name}.flac", (samples / "short.flac").read_bytes())
    proxy.trouble = lambda method, path, _: (
        Trouble(wait=3) if method == "GET" and path.endswith("flac") else None
    )
    done = main("--quiet", "s3://recordings/in/")
    assert done.returncode == 0 and done.stdout.count("==> ") == 4
    assert proxy.most == 4


def test_no_room_for_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the temporary folder that it is fetched to, not where results go."""
    bucket.put("a", b"recording" * 10_000)

    def full(where: s3.Location, file: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(s3, "fetch", full)
    with pytest.raises(
        InputError, match=r"cannot be fetched to /.*: No space left on device; free space there, or set"
    ):
        fetched("a")


def test_an_empty_object(main: Run, bucket: Bucket) -> None:
    bucket.put("a.flac", b"")
    done = main("s3://recordings/a.flac", "s3://recordings/none.flac", "s3://recordings/none/")
    assert done.returncode == 1
    assert errors(done) == [
        "transcribe: s3://recordings/none/: no object matches; check bucket and prefix",
        "transcribe: s3://recordings/none.flac: there is no such object; check the key, and end a prefix "
        "with a slash",
        "transcribe: s3://recordings/a.flac: is empty (0 bytes); copy or record it again",
    ]


def test_a_strange_error_is_told_in_its_own_words() -> None:
    found = explained(ValueError("odd\nmore"))
    assert (found.code, str(found)) == ("ValueError", "odd; check your AWS settings")
