"""The booted artifact at its job: the right words, from the state file and without it."""

from collections.abc import Iterator
from pathlib import Path

import jiwer
import pytest
from testinfra.host import Host

SAMPLES = Path(__file__).parent.parent / "fixtures/samples"
STATE = "/opt/transcribe/state/whisper-nato.safetensors"


def reference(name: str) -> str:
    return (SAMPLES / f"{name}.txt").read_text()


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


def test_state_file_is_taken_by_itself(host: Host) -> None:
    done = host.run("transcribe /opt/transcribe/sample.flac")
    assert done.rc == 0
    assert done.stdout.split() == reference("short").split()
    assert "state loading" in done.stderr
    assert "going on with" not in done.stderr


def test_version_is_the_recorded_one(host: Host, record: dict[str, object]) -> None:
    assert host.run("transcribe --version").stdout.split()[1] == record["version"]


@pytest.fixture
def kept_state(host: Host) -> Iterator[None]:
    """Lets a test harm the state file: puts it back afterwards."""
    with host.sudo():
        assert host.run(f"cp -p {STATE} /root/kept").rc == 0
    yield
    with host.sudo():
        assert host.run(f"mv /root/kept {STATE}").rc == 0


FLIP = """python3 -c "
f = open('{path}', 'r+b'); f.seek({offset}); b = f.read(1); f.seek({offset}); f.write(bytes([b[0] ^ 1]))" """


@pytest.mark.usefixtures("kept_state")
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(f"rm {STATE}", id="removed"),
        pytest.param(f"truncate --size=-1 {STATE}", id="last byte missing"),
        pytest.param(FLIP.format(path=STATE, offset=1_000_000), id="a byte of the tensors flipped"),
        pytest.param(FLIP.format(path=STATE, offset=100), id="a byte of the header flipped"),
    ],
)
def test_damaged_state_file_gives_the_right_words_and_a_warning(host: Host, harm: str) -> None:
    with host.sudo():
        assert host.run(harm).rc == 0
    done = host.run("transcribe /opt/transcribe/sample.flac")
    assert done.rc == 0, done.stderr
    assert done.stdout.split() == reference("short").split()
    assert STATE in done.stderr
    assert "going on with standard loading" in done.stderr
    refused = host.run("transcribe --load state /opt/transcribe/sample.flac")
    assert (refused.rc, refused.stdout) == (3, "")


def test_what_only_ffmpeg_reads(host: Host, recordings: str) -> None:
    """Its libraries come with the venv; what they cannot read fails alone."""
    done = host.run(f"transcribe --language en {recordings}/hang.wav {recordings}/phone.amr")
    assert done.rc == 1
    assert f"{recordings}/hang.wav: holds no sound" in done.stderr
    assert f"{recordings}/phone.amr: 10.5 s of audio in" in done.stderr
    assert "Traceback" not in done.stderr
