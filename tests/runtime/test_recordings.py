"""Typical users' recordings with a real model: every word, in the right language, at the right time.

tests/fixtures/recordings/README.md describes each of them, and what went wrong with it once.
"""

import io
import json
import re
import subprocess
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from preheat import cli
from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import Samples
from tests.runtime.console import Run
from tests.runtime.soundfiles import RECORDINGS, piped

FOX = "fox jump over the lazy dog my number is"  # the part that base transcribes correctly in every codec
INCOMPLETE = {"cut-short.mp3", "cut-short.ogg"}
REFUSED = {"hang.wav", "rate-1-hz.flac"}


@pytest.fixture(scope="module")
def done(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[str], dict[str, Any]]:
    """All of them in one run: its exit code, what it said on stderr, and each recording's JSON."""
    folder = tmp_path_factory.mktemp("recordings")
    paths = []
    (folder / "piped.flac").write_bytes(piped())
    for path in sorted([folder / "piped.flac", *RECORDINGS.glob("*.*")]):
        if path.suffix != ".md":
            paths.append(folder / path.name.replace(".", "-"))  # results are named by what is before the dot
            paths[-1].symlink_to(path)
    out = folder / "out"
    arguments = ["--home", base, "-o", out, "-f", "json", "--word_timestamps", "True", *paths]
    with pytest.MonkeyPatch.context() as patch:
        stderr = io.StringIO()
        patch.setattr("sys.stderr", stderr)
        code = cli.transcribe([str(argument) for argument in arguments])
    lines = [line for line in stderr.getvalue().splitlines() if "% done" not in line]
    written = {}
    for path in paths:
        if (result := out / f"{path.name}.json").exists():
            name = path.resolve().name
            written[name] = json.loads(result.read_text())
    return code, lines, written


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-zäöüß]+", text.lower()))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("clean.flac", FOX),
        ("vbr-without-xing.mp3", f"{FOX} .*monday morning.*{FOX} .*monday morning"),
        ("two-joined.mp3", f"{FOX} .*monday morning.*{FOX} .*monday morning"),
        ("two-joined.ogg", f"{FOX} .*please call me back on monday morning"),
        ("cut-short.mp3", FOX),
        ("cut-short.ogg", "fox jump over the lazy dog"),
        ("antiphase.flac", FOX),
        ("very-quiet.flac", "over the lazy dog my number is .*please call me (back|mac) on monday morning"),
        ("piped.flac", f"{FOX} .*please call me back on monday morning"),
        ("unfinalised-size-0.wav", "over the la[dz]y dog my number"),
        ("phone.amr", "my number is .*monday morning"),
        ("dictaphone.wma", FOX),
        ("flac-in-ogg.oga", f"{FOX} .*please call me back on monday morning"),
        ("hesitation-then-german.flac", "eine nachricht nach dem ton.*konferenz ist beendet"),
        ("no-pause.ogg", "discuss the new budget for the library.*voted for the plan.*short letter.*library"),
    ],
)
def test_the_words_are_there(name: str, wanted: str, done: tuple[int, list[str], dict[str, Any]]) -> None:
    _, lines, written = done
    assert re.search(wanted, words(written[name]["text"])), written[name]["text"]
    language = "de" if "german" in name else "en"
    assert written[name]["language"] == language
    assert written[name]["language_probability"] > 0.5
    assert written[name]["complete"] is (name not in INCOMPLETE)
    before = next(i for i, line in enumerate(lines) if f"{name.replace('.', '-')}: " in line and "] " in line)
    assert re.search(rf"\] language: [EG]\w+ \({language}\), [0-9]+% sure$", lines[before - 1])


def test_what_is_wrong_is_named(done: tuple[int, list[str], dict[str, Any]]) -> None:
    code, lines, written = done
    assert code == 1
    assert written.keys().isdisjoint(REFUSED)
    told = {line.split("/")[-1] for line in lines if line.startswith("transcribe: ")}
    again, there = "copy it again, or export it from its source", "the rest is transcribed"
    assert told == {
        f"cut-short-mp3: is cut short after 5.2 s of 10.5 s; {again}; {there}",
        f"cut-short-ogg: is cut short after 3.2 s; {again}; {there}",
        "hang-wav: has no audio (160 samples); record it again",
        "rate-1-hz-flac: has a sample rate of 1 Hz, outside 2,000 to 768,000 Hz; its header is "
        "damaged: export it again from its source",
    }


def test_times_are_in_order(done: tuple[int, list[str], dict[str, Any]]) -> None:
    for name, document in done[2].items():
        length = soundfile.info(RECORDINGS / name).duration if name.startswith("no-pause") else 60
        said = list(chain.from_iterable(segment["words"] for segment in document["segments"]))
        assert said, name
        for spans in (said, document["segments"]):
            assert all(first["end"] <= second["start"] for first, second in pairwise(spans)), name
            assert all(span["end"] - span["start"] > 0.0199 for span in spans), name  # floats
            assert spans[0]["start"] >= 0 and spans[-1]["end"] <= length, name


SENTENCES = {
    "de": "Guten Tag, ich rufe wegen der Rechnung an. Könnten Sie mich am Montag zurückrufen?",
    "es": "Buenos días, le llamo por la factura del mes pasado. ¿Podría llamarme el lunes por la mañana?",
    "pl": "Dzień dobry, dzwonię w sprawie faktury za zeszły miesiąc. Proszę oddzwonić w poniedziałek rano.",
}


def spoken(text: str, voice: str) -> Samples:
    command = ["espeak-ng", "-v", voice, "--stdout", text]
    sound, rate = soundfile.read(io.BytesIO(subprocess.check_output(command)), dtype="float32")
    resampled: Samples = soxr.resample(sound, rate, SAMPLE_RATE)
    return resampled


def pause(seconds: float) -> Samples:
    return np.random.default_rng(0).normal(0, 1e-4, round(seconds * SAMPLE_RATE)).astype(np.float32)


def music(seconds: float) -> Samples:
    """Chords and a beat."""
    choose, time = np.random.default_rng(0), np.arange(12000) / SAMPLE_RATE
    sound = np.zeros(round(seconds * SAMPLE_RATE) + 12000, np.float32)
    for beat in range(int(seconds * 2)):
        for tone in choose.choice([220, 262, 294, 330, 392, 440, 523, 587, 659], 3):
            chord = sum(0.06 / h * np.sin(2 * np.pi * tone * h * time) for h in (1, 2, 3, 4))
            sound[beat * 8000 :][:12000] += chord * np.exp(-2.5 * time)
        sound[beat * 8000 :][:1500] += 0.15 * choose.normal(size=1500) * np.exp(-np.arange(1500) / 300)
    return sound[: round(seconds * SAMPLE_RATE)]


@pytest.mark.parametrize(
    ("language", "way"), [("de", []), ("es", []), ("pl", []), ("de", ["--sequential"])], ids=str
)
def test_nothing_before_the_speech_decides_its_language(
    language: str, way: list[str], base: Path, main: Run, tmp_path: Path
) -> None:
    speech = spoken(SENTENCES[language], language)
    before = {
        "uh": [spoken("uh", "en"), pause(2.2)],
        "hm": [spoken("hm", "en"), pause(35)],
        "music": [music(15)],
    }
    for name, parts in before.items():
        soundfile.write(tmp_path / f"{name}.flac", np.concatenate([*parts, speech]), SAMPLE_RATE)
    paths = [tmp_path / f"{name}.flac" for name in before]
    out = ["-f", "json", "-o", tmp_path, "--temperature", "0"]
    done = main("--quiet", "--home", base, *way, *out, *paths)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
    assert [document["language"] for document in found] == [language] * 3


def test_an_english_model_says_so_and_no_more(tiny_en: Path, main: Run, tmp_path: Path) -> None:
    path = RECORDINGS / "clean.flac"
    done = main("--home", tiny_en, "-f", "json", path)
    document = json.loads(done.stdout)
    assert (document["language"], document["language_probability"]) == ("en", None)
    assert f"{path}: 6.5 s of audio in" in done.stderr and "language" not in done.stderr
