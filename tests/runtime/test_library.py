"""`from preheat import Transcriber`: what Python programs use, as docs/library.md shows it."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest

import preheat
from preheat import InputError, ModelError, Options, Segment, Transcriber, Transcript, UsageError, Word
from preheat.audio import audiofile
from preheat.audio.mixing import Samples
from tests.runtime.console import NAME, Run
from tests.runtime.homes import ROOT, RUNTIME

PAGE = ROOT / "docs/library.md"


@pytest.fixture(scope="module")
def transcriber(baked: Path) -> Transcriber:
    return Transcriber(home=baked, device="cpu")


@pytest.fixture(scope="module")
def short(samples: Path) -> Samples:
    return audiofile.decode(samples / "short.flac").samples


def python(code: str, folder: Path, **env: str) -> str:
    """The output of a program that finds the package only through the venv's path."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_lines_of_the_page_work(baked: Path, samples: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    (tmp_path / "audio.wav").write_bytes((samples / "short.flac").read_bytes())
    printed = python(code, tmp_path, TRANSCRIBE_HOME=str(baked), CUDA_VISIBLE_DEVICES="").splitlines()
    said = (samples / "short.txt").read_text().split()
    assert printed[0].split() == ["in", "en:", *said] or printed[0].split() == [
        "in",
        f"en:{said[0]}",
        *said[1:],
    ]
    assert [word for line in printed[1:] for word in line.split()[2:]] == said


def test_the_page_names_everything_and_nothing_else() -> None:
    text = PAGE.read_text()
    assert set(preheat.__all__) == set(re.findall(r"^\| `([A-Z]\w+)`", text, re.MULTILINE)) | {
        "Transcriber",
        "Word",
    }
    for name in ("language", "task", "initial_prompt", "word_timestamps", "temperature"):
        assert f"`{name}`" in text and name in {field.name for field in fields(Options)}


def test_everything_is_there_and_imported_late() -> None:
    assert sorted(preheat.__all__) == sorted(preheat.MODULES)
    for name in preheat.__all__:
        assert getattr(preheat, name).__name__ == name
    with pytest.raises(ImportError, match="cannot import name 'Transcribr' from 'preheat'"):
        from preheat import Transcribr  # type: ignore[attr-defined]  # noqa: F401, PLC0415  what is tested
    code = "import sys, preheat; from preheat import storage; print(*sys.modules)"
    late = {"numpy", "torch", "preheat.options", "preheat.transcriber"}
    assert late.isdisjoint(python(code, RUNTIME.parent).split())


def test_it_is_annotated(transcriber: Transcriber, samples: Path) -> None:
    """Checked by mypy when it lints this file."""
    assert (RUNTIME / "preheat/py.typed").read_bytes() == b""
    transcript = transcriber.transcribe(samples / "short.flac", Options(word_timestamps=True))
    assert_type(transcript, Transcript)
    assert_type(transcript.segments, list[Segment])
    assert_type(transcript.segments[0].words, list[Word] | None)
    assert [word.word.strip() for segment in transcript.segments for word in segment.words or []] == (
        (samples / "short.txt").read_text().split()
    )


@pytest.mark.filterwarnings("error")
def test_a_path_an_array_and_the_command_give_the_same(
    transcriber: Transcriber, short: Samples, samples: Path, main: Run
) -> None:
    path = samples / "short.flac"
    transcript = transcriber.transcribe(path)
    assert transcript.text.split() == (samples / "short.txt").read_text().split()
    assert (transcript.language, transcript.complete, transcript.incomplete) == ("en", True, None)
    frozen = short.copy()
    frozen.flags.writeable = False
    for array in (short, short.astype(np.float64), np.repeat(short, 2)[::2], frozen):
        before = array.copy()
        assert transcriber.transcribe(array) == transcript
        assert (array == before).all()
    assert transcriber.transcribe(str(path)) == transcript
    assert main("--quiet", path).stdout == "".join(f"{s.text.strip()}\n" for s in transcript.segments)
    one_by_one = transcriber.transcribe(path, sequential=True)
    assert one_by_one.text.split() == transcript.text.split() and one_by_one.segments != transcript.segments


def test_options_are_of_one_call(transcriber: Transcriber, samples: Path) -> None:
    path = samples / "short.flac"
    plain = transcriber.transcribe(path)
    chosen = transcriber.transcribe(path, Options(language="English", word_timestamps=True))
    assert (chosen.language, chosen.language_probability) == ("en", None)
    assert all(segment.words for segment in chosen.segments)
    assert transcriber.transcribe(path) == plain


def test_chance_is_the_same_each_time_and_left_alone(
    transcriber: Transcriber, short: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding draws the same random numbers each time, and does not change the program's own generator."""
    import torch  # noqa: PLC0415  only here

    def draw(*_: object, **__: object) -> list[float]:
        return torch.rand(3).tolist()

    monkeypatch.setattr("preheat.transcriber.write_down", draw)
    torch.manual_seed(7)
    wanted = draw()
    torch.manual_seed(7)
    drawn: Any = transcriber.transcribe(short)
    assert draw() == wanted != drawn
    assert transcriber.transcribe(short) == drawn


def test_threads_may_share_one(transcriber: Transcriber, samples: Path) -> None:
    """Each with options of its own."""
    path = samples / "short.flac"
    asked = [Options(word_timestamps=i % 2 == 0) for i in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda options: transcriber.transcribe(path, options), asked))
    assert [all(s.words for s in transcript.segments) for transcript in found] == [True, False] * 3


def test_what_is_missing_of_a_recording_is_told(
    transcriber: Transcriber, samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.flac").write_bytes((samples / "short.flac").read_bytes()[:80_000])
    transcript = transcriber.transcribe(tmp_path / "cut.flac")
    assert transcript.segments and not transcript.complete
    assert transcript.incomplete and transcript.incomplete.startswith("is cut short")


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        ("/none.wav", "/none.wav: no such file; check the name and the folder"),
        (RUNTIME / "VERSION", "VERSION: is not a recording"),
        (np.zeros((2, 16000), np.float32), r"the recording: has the shape \(2, 16000\); pass one"),
        (np.zeros(16000, np.int16), "the recording: has the dtype int16; pass floats from -1 to 1"),
        (np.zeros(0, np.float32), r"the recording: has no audio \(0 samples\)"),
        (np.full(16000, np.nan), "the recording: has samples that are NaN or infinite"),
    ],
)
def test_no_recording(transcriber: Transcriber, audio: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        transcriber.transcribe(audio)
    assert "\n" not in str(caught.value)


def test_what_the_model_cannot_do(transcriber: Transcriber, short: Samples) -> None:
    with pytest.raises(UsageError, match=f"{NAME} does not support the language Klingon; it supports "):
        transcriber.transcribe(short, Options(language="Klingon"))


def test_what_cannot_be_opened(baked: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no model base in {baked}"):
        Transcriber("base", home=baked)
    with pytest.raises(ModelError, match=f"no model in {tmp_path}"):
        Transcriber(home=tmp_path)
    with pytest.raises(UsageError, match="unknown device 'gpu'; choose from auto, cpu, cuda"):
        Transcriber(home=baked, device="gpu")
    with pytest.raises(UsageError, match="unknown load 'fast'; choose from auto, state, standard"):
        Transcriber(home=baked, load="fast")
    with pytest.raises(UsageError, match="batch_size is 0; it must be a whole number"):
        Transcriber(home=baked, batch_size=0)


def test_standard_loading(baked: Path, samples: Path) -> None:
    transcriber = Transcriber(NAME, home=baked, device="cpu", load="standard", batch_size=1)
    said = (samples / "short.txt").read_text().split()
    assert transcriber.transcribe(samples / "short.flac").text.split() == said
