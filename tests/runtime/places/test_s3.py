"""Recordings from S3 and results to it, by the command, against moto's server."""

import json
import os
from pathlib import Path

import pytest

from preheat.audio import audiofile
from tests.runtime.console import Run, errors
from tests.runtime.places.conftest import Bucket
from tests.runtime.places.proxy import Proxy, Trouble
from tests.runtime.soundfiles import WRITERS

ALL = ["txt", "srt", "vtt", "tsv", "json"]
TYPES = {
    "short.txt": "text/plain; charset=utf-8",
    "short.srt": "application/x-subrip; charset=utf-8",
    "short.vtt": "text/vtt; charset=utf-8",
    "short.tsv": "text/tab-separated-values; charset=utf-8",
    "short.json": "application/json",
}


@pytest.fixture
def short(samples: Path) -> bytes:
    """A recording of 8 s."""
    return (samples / "short.flac").read_bytes()


def texts(folder: Path) -> dict[str, str]:
    """What is in each file that does not begin with a dot."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def test_all_formats_in_both_places(run: Run, bucket: Bucket, samples: Path, tmp_path: Path) -> None:
    """A separate process finds endpoint and credentials in the usual places of AWS's tools."""
    out, folder = tmp_path / "out", tmp_path / "in"
    sound = audiofile.decode(samples / "short.flac").samples
    for name in ("short.wav", "phone/call.m4a", "phone/film.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(WRITERS[Path(name).suffix[1:]](sound))
    done = run("-f", "all", "-o", out, "-o", "s3://recordings/out", folder)
    assert (done.returncode, done.stdout, errors(done)) == (0, "", [])
    assert texts(out) == bucket.contents("out/")
    stems = ("short", "phone/call", "phone/film")
    assert sorted(texts(out)) == sorted(f"{stem}.{name}" for stem in stems for name in ALL)
    assert all("zero" in texts(out)[f"{stem}.txt"] for stem in stems)
    assert {name: bucket.get(f"out/{name}")["ContentType"] for name in TYPES} == TYPES


def test_formats_are_written_side_by_side(main: Run, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    """All but the JSON, so that a slow network delays twice, not five times."""
    proxy.trouble = lambda method, *_: Trouble(wait=0.5) if method == "PUT" else None
    assert main("-f", "all", "-o", "s3://recordings", samples / "short.flac").returncode == 0
    assert proxy.most == 4
    assert sorted(bucket.contents()) == sorted(TYPES)


def test_a_recording_and_a_prefix(
    main: Run, bucket: Bucket, short: bytes, samples: Path, tmp_path: Path
) -> None:
    bucket.put("calls/monday/a.flac", short)
    bucket.put("calls/b c+ü.flac", (samples / "noise.flac").read_bytes())
    bucket.put("calls/notes.txt", b"no sound")
    bucket.put("calls/folder/", b"")
    wanted = main("--quiet", samples / "short.flac").stdout
    done = main("--quiet", "s3://recordings/calls/monday/a.flac")
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    done = main("--quiet", "-o", tmp_path, "s3://recordings/calls/")
    assert done.returncode == 0
    assert errors(done) == [
        "transcribe: s3://recordings/calls/: skipped files that are not recordings, by suffix: .txt (1)"
    ]
    assert texts(tmp_path) == {"monday/a.txt": wanted, "b c+ü.txt": ""}
    done = main("--quiet", "s3://recordings/calls/*/?.flac")
    assert (done.returncode, done.stdout) == (0, wanted)


def test_the_json_is_there_and_last(
    main: Run, bucket: Bucket, proxy: Proxy, samples: Path, tmp_path: Path
) -> None:
    """In S3 even if not asked for, with metadata on what it was made from."""
    done = main("--quiet", "-o", tmp_path, "-o", "s3://recordings/a/b/", samples / "short.flac")
    assert (done.returncode, done.stderr) == (0, "")
    puts = [path for method, path, _ in proxy.requests if method == "PUT"]
    assert puts == ["/recordings/a/b/short.txt", "/recordings/a/b/short.json"]
    assert list(texts(tmp_path)) == ["short.txt"]
    noted = json.loads(bucket.get("a/b/short.json")["Metadata"]["transcribe"])
    assert noted["formats"] == ["txt", "json"] and noted["complete"] is True
    assert all("x-amz-checksum-crc32" in headers for method, _, headers in proxy.requests if method == "PUT")


@pytest.mark.parametrize("place", ["folder", "bucket", "both"])
def test_skipping_what_is_there(  # noqa: PLR0913, PLR0917  fixtures, mostly
    place: str, main: Run, bucket: Bucket, samples: Path, tmp_path: Path, home: Path
) -> None:
    """Not if the recording, the model, an option or the formats have changed, or the result is incomplete."""
    options = ["--home", str(home)]
    options += ["-o", str(tmp_path / "out")] if place != "bucket" else []
    options += ["-o", "s3://recordings/out"] if place != "folder" else []
    recording, other = tmp_path / "a.flac", tmp_path / "b.flac"
    for path in (recording, other):
        path.write_bytes((samples / "short.flac").read_bytes())

    def doing(*more: str | Path) -> list[str]:
        done = main(*options, *more, recording, other)
        assert done.returncode in (0, 1)
        return [path.name for path in (recording, other) if f"{path}: 8.0 s" in done.stderr]

    both = ["a.flac", "b.flac"]
    assert doing("--skip_existing") == both
    assert doing("--skip_existing") == []
    assert doing() == doing("--if_exists", "replace") == both
    assert doing("--if_exists", "skip", "-f", "txt,srt") == both
    assert doing("--if_exists", "skip", "-f", "txt,srt") == []
    os.utime(recording, (0, 0))
    assert doing("--skip_existing", "-f", "txt,srt") == ["a.flac"]
    assert doing("--skip_existing", "-f", "txt,srt", "--language", "en") == both
    assert doing("--skip_existing", "-f", "txt,srt", "--language", "en") == []
    assert doing("--if_exists", "fail", "-f", "txt,srt") == []
    if place != "bucket":
        (tmp_path / "out/b.srt").unlink()
        assert doing("--skip_existing", "-f", "txt,srt", "--language", "en") == ["b.flac"]
    if place != "folder":
        bucket.client.delete_object(Bucket="recordings", Key="out/b.json")
        assert doing("--skip_existing", "-f", "txt,srt", "--language", "en") == ["b.flac"]
        assert "out/b.json" in bucket.contents()
    recording.write_bytes(recording.read_bytes()[:80_000])
    for _ in range(2):  # a truncated recording is never done
        done = main("--skip_existing", "--language", "en", "-f", "txt,srt", *options, recording, other)
        assert done.returncode == 1 and "is cut short after" in errors(done)[0]
        assert f"{other}: already done" in done.stderr


def test_everything_is_there(main: Run, bucket: Bucket, samples: Path, tmp_path: Path) -> None:
    """No model is loaded; and with --if_exists fail each is named."""
    arguments = ["-o", "s3://recordings/", samples / "short.flac"]
    assert main(*arguments).returncode == 0
    done = main("--skip_existing", *arguments)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith("short.flac: already done\n")
    done = main("--if_exists", "fail", *arguments)
    assert done.returncode == 1
    assert errors(done) == [
        f"transcribe: {samples}/short.flac: its results already exist in s3://recordings/; "
        "choose another -o, or --if_exists replace"
    ]
    bucket.put("short.json", b"{}")  # from another program, without our metadata
    assert "already done" in main("--skip_existing", *arguments).stderr


@pytest.mark.parametrize("way", ["skip", "fail", "replace"])
def test_somebody_else_was_faster(way: str, main: Run, bucket: Bucket, proxy: Proxy, samples: Path) -> None:
    """The other writer's JSON stays, unless results are to be replaced."""

    def meanwhile(method: str, path: str, _: dict[str, str]) -> None:
        if method == "PUT" and path.endswith(".txt"):
            bucket.put("short.json", b"his")

    proxy.trouble = meanwhile
    done = main("--if_exists", way, "-o", "s3://recordings", samples / "short.flac")
    assert done.returncode == (1 if way == "fail" else 0)
    told = "another process has since written s3://recordings/short.json; left unchanged"
    assert (told in done.stderr) == (way != "replace")
    assert [told in line for line in errors(done)] == ([True] if way == "fail" else [])
    assert (bucket.contents()["short.json"] == "his") == (way != "replace")


def test_one_place_fails_and_the_other_gets_it(
    main: Run, bucket: Bucket, proxy: Proxy, samples: Path, tmp_path: Path
) -> None:
    """And the failed place, S3, has no JSON, which would mark it as done."""
    proxy.trouble = lambda method, path, _: (
        Trouble(status=403, body=b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        if method == "PUT" and path.endswith(".txt")
        else None
    )
    done = main("-o", "s3://recordings/x/", "-o", tmp_path, samples / "short.flac", samples / "noise.flac")
    assert done.returncode == 1
    first, _ = errors(done)
    assert first.startswith(
        f"transcribe: {samples}/short.flac: s3://recordings/x/: access is denied; ask for s3:Get"
    )
    assert sorted(texts(tmp_path)) == ["noise.txt", "short.txt"]
    assert bucket.contents() == {}


def test_names_that_are_no_keys(main: Run, bucket: Bucket, samples: Path, tmp_path: Path) -> None:
    """They fail early, and alone; any name that S3 accepts is used unchanged."""
    long = tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200)
    names = [
        "caf\udce9.flac",
        "two lines, ü & +%20.flac",
        f"{long.relative_to(tmp_path)}/{'g' * 200}/{'h' * 240}.flac",
    ]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).symlink_to(samples / "short.flac")
    done = main("-o", "s3://recordings/out/", tmp_path / "in")
    assert done.returncode == 1
    first, second = errors(done)
    assert first.endswith(".flac: its name is not UTF-8, as S3 requires; rename it")
    assert second.endswith(".flac: its key is longer than 1024 bytes; rename it")
    assert sorted(bucket.contents("out/")) == ["two lines, ü & +%20.json", "two lines, ü & +%20.txt"]
