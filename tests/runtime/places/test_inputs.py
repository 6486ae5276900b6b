"""What can be named on the command line, and how results are named after it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from preheat.places import naming, s3, web
from preheat.places.sources import Object
from tests.runtime.console import Run, errors
from tests.runtime.homes import RUNTIME


def stems(*words: str | Path) -> dict[str, str]:
    """The name of each recording's results."""
    found, failed = naming.recordings([str(word) for word in words], [], apart=True)
    assert failed == []
    return {each.source.name: each.stem for each in found}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, with others in it."""
    for name in (
        "calls/a.wav",
        "calls/b.MP3",
        "calls/x/a.wav",
        "calls/x/a.flac",
        "calls/y/c.m4a",
        "calls/x/n.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    for name in ("calls/.hidden.wav", "calls/.git/a.wav", "calls/README"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "calls"


def test_a_folder(calls: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its recordings, in order, with their folders; what is left out is named once."""
    assert stems("calls") == {
        "calls/a.wav": "a",
        "calls/b.MP3": "b",
        "calls/x/a.flac": "x/a.flac",
        "calls/x/a.wav": "x/a.wav",
        "calls/y/c.m4a": "y/c",
    }
    said = "transcribe: calls: skipped files that are not recordings, by suffix: .txt (1), none (1)\n"
    assert capfd.readouterr().err == said
    assert list(stems(calls / "y").values()) == ["c"]


def test_names_that_would_collide(calls: Path) -> None:
    assert stems("calls/a.wav", "calls/x/a.wav") == {"calls/a.wav": "calls/a", "calls/x/a.wav": "calls/x/a"}
    assert stems("calls/x/a.wav", "calls/x/a.flac", "calls/y/c.m4a") == {
        "calls/x/a.wav": "calls/x/a.wav",
        "calls/x/a.flac": "calls/x/a.flac",
        "calls/y/c.m4a": "c",
    }
    assert list(stems(calls / "x/a.wav", calls / "a.wav").values()) == [
        f"{str(calls)[1:]}/x/a",
        f"{str(calls)[1:]}/a",
    ]
    (calls.parent / "more/x").mkdir(parents=True)
    (calls.parent / "more/c.wav").touch()
    assert stems("more", "calls/y") == {"more/c.wav": "more/c", "calls/y/c.m4a": "y/c"}
    assert stems("calls/a.wav", "calls/a.wav") == {"calls/a.wav": "a"}


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("a/../../../etc/b.wav", "etc/b"),
        ("/b.wav", "b"),
        ("./c//b.wav", "c/b"),
        ("..", "_"),
        ("a\0b.wav", "a_b"),
    ],
)
def test_keys_lead_out_of_no_folder(key: str, wanted: str) -> None:
    name = naming.names(key, key, "bucket")[1]
    assert not name.startswith("/") and ".." not in name.split("/")
    assert name.endswith(wanted)


def test_patterns(calls: Path) -> None:
    assert list(stems("calls/*.wav")) == ["calls/a.wav"]
    assert list(stems("calls/**/*.wav")) == ["calls/a.wav", "calls/x/a.wav"]
    (calls / "odd[1].wav").touch()
    assert list(stems("calls/odd[1].wav")) == ["calls/odd[1].wav"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list(end: str, main: Run, samples: Path, tmp_path: Path) -> None:
    names = [b"short.flac", "Zürich -o.flac".encode(), b"caf\xe9.flac"]
    names += [b"two\nlines.flac"] if end == "\0" else []
    for name in names:
        (tmp_path / os.fsdecode(name)).symlink_to(samples / "short.flac")
    content = [os.fsencode(tmp_path) + b"/" + name for name in names]
    (tmp_path / "list").write_bytes(end.encode().join([*content, b""]))
    done = main("--quiet", "-o", tmp_path / "out", "--files_from", tmp_path / "list")
    assert (done.returncode, done.stderr) == (0, "")
    written = {os.fsencode(path.name) for path in (tmp_path / "out").glob("*.txt")}
    assert written == {name.replace(b".flac", b".txt") for name in names}


def test_a_leading_dash(main: Run, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-a.flac").symlink_to(samples / "short.flac")
    done = main("--quiet", "-o", "out", "--", "-a.flac")
    assert done.returncode == 0 and "zero" in Path("out/-a.txt").read_text()


@pytest.mark.parametrize("name", ["short.flac", "noise.flac"])
def test_standard_input(name: str, run: Run, samples: Path, tmp_path: Path) -> None:
    """From a pipe, which can be read only once and not seek."""
    wanted = run("--quiet", samples / name).stdout
    with subprocess.Popen(["cat", samples / name], stdout=subprocess.PIPE) as cat:
        done = run("--quiet", "-", stdin=cat.stdout)
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    done = run("--quiet", "-o", tmp_path, "-", stdin=(samples / name).open())
    assert done.returncode == 0 and (tmp_path / "stdin.txt").read_text() == wanted
    done = run("-", stdin=subprocess.DEVNULL)
    assert (done.returncode, errors(done)) == (
        1,
        ["transcribe: -: is empty (0 bytes); copy or record it again"],
    )


class Site(BaseHTTPRequestHandler):
    """A web server with a recording, and with typical misbehaviour."""

    content = b""

    def do_GET(self) -> None:
        """Answer."""
        name = self.path.partition("?")[0]
        if name == "/moved.flac":
            self.send_response(302)
            self.send_header("Location", "/call%201.flac?signed=yes")
            self.end_headers()
        elif name == "/call%201.flac":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.content)
        elif name == "/endless.flac":
            self.send_response(200)
            self.end_headers()
            for _ in range(200):
                self.wfile.write(bytes(100_000))
                sleep(0.01)
        elif name == "/silent.flac":
            sleep(3)
        elif name == "/short.flac":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            self.wfile.write(self.content[:1000])
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Of the site."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing: the command ends a connection as it likes."""


@pytest.fixture
def site(samples: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address."""
    monkeypatch.setattr(Site, "content", (samples / "short.flac").read_bytes())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_web(main: Run, site: str, samples: Path, tmp_path: Path) -> None:
    wanted = main("--quiet", samples / "short.flac").stdout
    done = main("--quiet", "-o", tmp_path, f"{site}/call%201.flac?signed=yes", f"{site}/moved.flac")
    assert (done.returncode, done.stderr) == (0, "")
    texts = {path.name: path.read_text() for path in tmp_path.glob("*.txt")}
    assert texts == {"call 1.txt": wanted, "moved.txt": wanted}


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("none.flac", {}, "the server answered 404 Not Found; open the URL in a browser"),
        ("endless.flac", {"LARGEST": 1 << 20}, "is larger than 0 GiB; save it to a file first"),
        ("endless.flac", {"LONGEST": 0.5}, "takes longer than 0 s; save it to a file first"),
        ("silent.flac", {"SILENT": 0.5}, "the server sent nothing for 0 s; try again later"),
        ("short.flac", {}, "cannot be fetched: peer closed connection without sending complete message body"),
    ],
)
def test_the_web_on_a_bad_day(  # noqa: PLR0913, PLR0917  fixtures, mostly
    name: str, limit: dict[str, float], words: str, main: Run, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant, value in limit.items():
        monkeypatch.setattr(web, constant, value)
    done = main(f"{site}/{name}")
    (line,) = errors(done)
    assert done.returncode == 1 and line.startswith(f"transcribe: {site}/{name}: {words}")


def test_addresses_that_are_none(main: Run, samples: Path) -> None:
    done = main("http://[1", "http://127.0.0.1:1/a.wav", samples / "short.flac")
    assert done.returncode == 1 and "zero" in done.stdout
    first, second = errors(done)
    assert first.startswith("transcribe: http://[1: is not a valid URL: Invalid IPv6 URL; check it")
    assert "http://127.0.0.1:1/a.wav: cannot be fetched: " in second


LAZY = """
import sys
from preheat import cli
cli.transcribe(sys.argv[1:])
print(*sorted({"boto3", "botocore", "httpx2", "rich", "s3transfer"} & set(sys.modules)))
"""


def test_what_is_not_asked_for_is_not_imported(baked: Path, samples: Path, tmp_path: Path) -> None:
    """A folder for results does not import boto3 either; S3 and the web import what they need."""
    for arguments, wanted in (
        (["-o", str(tmp_path), "--skip_existing", str(samples)], ""),
        (["http://127.0.0.1:1/a.wav"], "httpx2"),
    ):
        command = [sys.executable, "-c", LAZY, "--quiet", "--device", "cpu", "--home", str(baked), *arguments]
        done = subprocess.run(command, cwd=RUNTIME, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.splitlines()[-1] == wanted


def test_a_location() -> None:
    where = s3.location("s3://bucket/a/b c.wav")
    assert (where.bucket, where.key, str(where)) == ("bucket", "a/b c.wav", "s3://bucket/a/b c.wav")
    assert Object(where).name == "s3://bucket/a/b c.wav"
    assert [
        str(s3.location(text).beneath("x")) for text in ("s3://bucket", "s3://bucket/a", "s3://bucket/a/")
    ] == [
        "s3://bucket/x",
        "s3://bucket/a/x",
        "s3://bucket/a/x",
    ]
