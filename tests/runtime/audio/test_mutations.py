"""Randomly damaged recordings: each is read or refused; none hangs, crashes or uses up the memory."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.console import Run
from tests.runtime.soundfiles import RECORDINGS, WRITERS, chirp

MEMORY = 3 << 30  # bytes of address space for each process that reads them, the decoder's included
SLOWEST = 60  # s for one, however busy the machine
EXTREMES = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xf8\xff\xff\xff",
    b"\xff\xff\xff\xf8",
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
]

READ = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
from preheat.audio import audiofile, loudness, vad
from pathlib import Path
from preheat.storage import InputError
detector = vad.Detector.load()
for name in sys.stdin.read().splitlines():
    start = time.monotonic()
    try:
        samples = audiofile.decode(Path(name)).samples
        vad.spoken(detector.probabilities(loudness.audible(samples)), len(samples))
        outcome = "read"
    except InputError as error:
        outcome = f"refused: {{error}}"
    except BaseException as error:
        outcome = f"{{type(error).__name__}}: {{error}}"
    print(json.dumps([name, outcome, time.monotonic() - start]), flush=True)
"""


def originals() -> list[bytes]:
    """A second or so of every kind."""
    made = [write(chirp(1.2)) for write in WRITERS.values()]
    listed = bytearray(WRITERS["wav"](chirp(1.2)))
    listed[36:36] = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf62.12.102\0"
    hang = (RECORDINGS / "hang.wav").read_bytes()
    kept = [
        (RECORDINGS / name).read_bytes() for name in ("dictaphone.wma", "flac-in-ogg.oga", "two-joined.ogg")
    ]
    return [*made, bytes(listed), bytes(listed), hang, *kept]


def mutated(content: bytes, others: list[bytes], choose: random.Random) -> bytes:
    """The content with one to four typical faults, most of them near its start."""
    damaged = bytearray(content)
    for _ in range(choose.randint(1, 4)):
        at = min(int(choose.choice([64, 400, len(damaged)]) * choose.random()), max(len(damaged) - 5, 0))
        fault = choose.randrange(7)
        if fault == 0:
            damaged[at] = choose.randrange(256)
        elif fault == 1:
            damaged[at] ^= 1 << choose.randrange(8)
        elif fault == 2:  # a size or a rate, often
            at -= at % 4
            damaged[at : at + 4] = choose.choice(EXTREMES)
        elif fault == 3:
            del damaged[at : at + choose.randint(1, 100)]
        elif fault == 4:
            damaged[at:at] = choose.randbytes(choose.randint(1, 100))
        elif fault == 5:
            del damaged[max(at, 8) :]
        else:
            other = choose.choice(others)
            damaged[at:] = other[int(len(other) * choose.random()) :]
        damaged = damaged or bytearray(b"\0")
    return bytes(damaged)


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)], ids=["some", "many"])
def test_no_damage_ends_the_others(count: int, tmp_path: Path) -> None:
    choose = random.Random(count)  # noqa: S311  no secret
    intact = originals()
    names = []
    for i in range(count):
        names.append(tmp_path / f"{i:04}")
        names[-1].write_bytes(mutated(choose.choice(intact), intact, choose))
    code = READ.format(memory=MEMORY)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(map(str, names)), capture_output=True, text=True, check=True, timeout=SLOWEST * count,
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(name) for name, _, _ in results] == names and done.stderr == ""
    strange = [(name, outcome) for name, outcome, _ in results if not outcome.startswith(("read", "refused"))]
    assert strange == []
    assert [name for name, _, seconds in results if seconds > SLOWEST] == []
    refused = [outcome for _, outcome, _ in results if outcome.startswith("refused")]
    assert all("\n" not in outcome and ";" in outcome for outcome in refused)
    assert count / 10 < len(refused) < count * 9 / 10  # otherwise the damage is too little or too much


def test_the_command_does_the_others(main: Run, samples: Path, tmp_path: Path) -> None:
    choose = random.Random(7)  # noqa: S311  no secret
    intact = originals()
    names = [tmp_path / f"{i}.wav" for i in range(20)]
    for name in names:
        name.write_bytes(mutated(choose.choice(intact), intact, choose))
    done = main("--quiet", "--language", "en", *names, samples / "short.flac", RECORDINGS / "hang.wav")
    assert done.returncode == 1
    assert f"==> {samples / 'short.flac'} <==" in done.stdout
    lines = done.stderr.splitlines()
    assert all(line.startswith("transcribe: ") for line in lines)
    assert any("hang.wav: " in line for line in lines)
