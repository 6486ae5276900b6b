"""The booted artifact at its job: the right words, from the state file and without it."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import pytest
from testinfra.host import Host

SAMPLES = Path(__file__).parent.parent / "fixtures/samples"
LIBRARY = Path(__file__).parents[2] / "docs/library.md"
SAMPLE = "/opt/transcribe/sample.flac"


def reference(name: str) -> str:
    return (SAMPLES / f"{name}.txt").read_text()


@pytest.fixture
def nato(record: dict[str, Any]) -> None:
    """Skip tests that expect the fixtures' exact words unless the image has the fixture model."""
    if record["model"]["name"] != "whisper-nato":
        pytest.skip(f"the image has the model {record['model']['name']}")


@pytest.fixture
def words(record: dict[str, Any]) -> list[str]:
    """The words that the image's own sample gave when the state file was baked."""
    text: str = record["verification"]["text"]
    return text.split()


@pytest.mark.usefixtures("nato")
@pytest.mark.parametrize("load", ["state", "standard"])
@pytest.mark.parametrize("name", ["short", "long", "noise"])
def test_words(host: Host, recordings: str, name: str, load: str) -> None:
    done = host.run(f"transcribe --load {load} {recordings}/{name}.flac")
    assert done.rc == 0, done.stderr
    heard, said = done.stdout.split(), reference(name).split()
    if name == "long":
        # The small model may miss one word in twenty; tests/runtime asserts the same of transformers.
        assert jiwer.wer(" ".join(said), " ".join(heard)) <= 0.05
    else:
        assert heard == said


@pytest.mark.usefixtures("nato")
def test_the_sample_is_the_fixture(words: list[str]) -> None:
    assert words == reference("short").split()


def test_state_file_is_taken_by_itself(host: Host, words: list[str]) -> None:
    done = host.run(f"transcribe {SAMPLE}")
    assert done.rc == 0
    assert done.stdout.split() == words
    assert "state loading" in done.stderr
    assert "going on with" not in done.stderr


def test_a_program_transcribes(host: Host, words: list[str]) -> None:
    """The example of docs/library.md, run by the login user in a separate folder."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", LIBRARY.read_text(), re.MULTILINE | re.DOTALL)
    code = code.replace("audio.wav", SAMPLE)
    done = host.run(f"cd / && /opt/transcribe/venv/bin/python -c {shlex.quote(code)}")
    assert done.rc == 0, done.stderr
    heard = [word for line in done.stdout.splitlines()[1:] for word in line.split()[2:]]
    assert heard == words


def test_version_is_the_recorded_one(host: Host, record: dict[str, object]) -> None:
    assert host.run("transcribe --version").stdout.split()[1] == record["version"]


def test_it_runs_on_what_it_was_baked_on(host: Host, record: dict[str, Any]) -> None:
    """A driver that is not there after a boot would let it fall back to the CPU."""
    done = host.run(f"transcribe --timings=json {SAMPLE}")
    timings = json.loads(next(line for line in done.stderr.splitlines() if line.startswith("{")))
    assert timings["device"] == record["verification"]["state"]["device"]


@pytest.fixture
def state(host: Host, record: dict[str, Any]) -> Iterator[str]:
    """The path of the state file, which a test may damage; it is restored afterwards."""
    path: str = record["state"]["path"]
    with host.sudo():
        assert host.run(f"cp -p {path} /root/kept").rc == 0
    yield path
    with host.sudo():
        assert host.run(f"mv /root/kept {path}").rc == 0


FLIP = """python3 -c "
f = open('{path}', 'r+b'); f.seek({offset}); b = f.read(1); f.seek({offset}); f.write(bytes([b[0] ^ 1]))" """


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("rm {path}", id="removed"),
        pytest.param("truncate --size=-1 {path}", id="last byte missing"),
        pytest.param(FLIP.replace("{offset}", "1000000"), id="a byte of the tensors flipped"),
        pytest.param(FLIP.replace("{offset}", "100"), id="a byte of the header flipped"),
    ],
)
def test_damaged_state_file_gives_the_right_words_and_a_warning(
    host: Host, state: str, words: list[str], harm: str
) -> None:
    with host.sudo():
        assert host.run(harm.format(path=state)).rc == 0
    done = host.run(f"transcribe {SAMPLE}")
    assert done.rc == 0, done.stderr
    assert done.stdout.split() == words
    assert state in done.stderr
    assert "going on with standard loading" in done.stderr
    refused = host.run(f"transcribe --load state {SAMPLE}")
    assert (refused.rc, refused.stdout) == (3, "")


def test_what_only_ffmpeg_reads(host: Host, recordings: str) -> None:
    """FFmpeg's libraries come with the venv; a recording that they cannot read fails alone."""
    done = host.run(f"transcribe --language en {recordings}/hang.wav {recordings}/phone.amr")
    assert done.rc == 1
    assert f"{recordings}/hang.wav: has no audio" in done.stderr
    assert f"{recordings}/phone.amr: 10.5 s of audio in" in done.stderr
    assert "Traceback" not in done.stderr
