"""transcribe.py from the command line: what it prints where, and its exit codes."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from subprocess import PIPE
from typing import Any

import pytest
import soundfile
import torch

from preheat import timing, transcribe
from preheat.audio import audiofile, vad
from preheat.model import batched, decoding
from preheat.transcript import Transcript
from preheat.weights import loading
from tests.runtime.console import NAME, Run, errors
from tests.runtime.homes import RUNTIME


def test_one_bad_file_does_not_stop_the_others(main: Run, samples: Path, silence: Path) -> None:
    folder = silence.parent
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("not audio")
    cut = folder / "cut.flac"
    cut.write_bytes((samples / "short.flac").read_bytes()[:50_000])
    good = samples / "short.flac"
    (folder / "none").mkdir()
    done = main(folder / "none.wav", folder / "empty.wav", folder / "text.wav", good, cut, folder / "none")
    assert done.returncode == 1
    wanted = [
        "none: has no recordings; give the files by name",
        "none.wav: no such file; check the name and the folder",
        "empty.wav: is empty (0 bytes); copy or record it again",
        "text.wav: is not a recording, or damaged at its start; give a wav, flac, mp3, m4a, ogg or webm file",
        "cut.flac: is cut short after 3.1 s of 8.0 s; copy it again, or export it from its source; "
        "the rest is transcribed",
    ]
    for line, end in zip(errors(done), wanted, strict=True):
        assert line.endswith(end)
    parts = by_file(done.stdout)
    assert list(parts) == [str(good), str(cut)]
    assert parts[str(good)].startswith(parts[str(cut)].split(maxsplit=1)[0])  # what is there of it is done


def test_a_file_that_goes_away_meanwhile(
    main: Run, samples: Path, silence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exists at the first check, but no longer when its turn comes."""

    def find_later(home: Path, wanted: str | None) -> str:
        silence.unlink()
        return loading.find(home, wanted)

    monkeypatch.setattr(transcribe, "find", find_later)
    done = main("--quiet", silence, samples / "short.flac")
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith(f"transcribe: {silence}: cannot be read: No such file or directory; ")
    assert f"==> {samples / 'short.flac'} <==\n" in done.stdout


FAILING = {"languages": [2], "decode": [2, 3]}  # calls for the second of `four`


@pytest.mark.parametrize("way", [[], ["--sequential"], ["--language", "en"]])
def test_a_recording_that_memory_does_not_suffice_for(
    way: list[str], main: Run, four: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for one window: the others are done, and none of its memory is kept."""
    alone = {str(path): main("--quiet", *way, path).stdout for path in four}
    failing = "decode" if "--language" in way else "languages"
    right, forget = getattr(decoding.Decoder, failing), decoding.Decoder.forget
    calls, forgotten = [], []

    def fail_for_one(self: decoding.Decoder, features: torch.Tensor, *more: object) -> object:
        calls.append(weakref.ref(features))
        if len(calls) in FAILING[failing]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.")
        return right(self, features, *more)

    def look(self: decoding.Decoder) -> None:
        forgotten.append(calls[-1]() is None)
        forget(self)

    monkeypatch.setattr(decoding.Decoder, failing, fail_for_one)
    monkeypatch.setattr(decoding.Decoder, "forget", look)
    done = main("--quiet", *way, *four)
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith(f"transcribe: {four[1]}: cannot be transcribed: CUDA out of memory. Tried to")
    assert line.endswith(" 20 MiB; check nvidia-smi, or use --device cpu")
    del alone[str(four[1])]
    assert by_file(done.stdout) == alone
    assert forgotten and all(forgotten)


@pytest.fixture
def four(samples: Path, tmp_path: Path) -> list[Path]:
    """Four recordings of different words."""
    sound = audiofile.decode(samples / "long.flac").samples
    paths = [samples / "short.flac", *(tmp_path / f"{name}.wav" for name in "abc")]
    for path, start in zip(paths[1:], (0, 20, 45), strict=True):
        soundfile.write(path, sound[start * 16000 : (start + 15) * 16000], 16000)
    return paths


def by_file(text: str) -> dict[str, str]:
    """What is written below each header."""
    parts = re.split(r"^==> (.*) <==\n", text, flags=re.MULTILINE)
    assert parts[0] == ""
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_several_files_are_each_as_if_alone(main: Run, four: list[Path]) -> None:
    """Each is read while the previous one is transcribed; results are in order, whichever is broken."""
    alone = {str(path): main("--quiet", path).stdout for path in four}
    assert len(set(alone.values())) == 4 and all(alone.values())
    done = main("--quiet", *four)
    assert (done.returncode, list(by_file(done.stdout))) == (0, [str(path) for path in four])
    assert by_file(done.stdout) == alone
    broken = four[0].parent / "short.txt"
    for at in (0, 2, 4):
        done = main("--quiet", *four[:at], broken, *four[at:])
        assert done.returncode == 1
        assert by_file(done.stdout) == alone
        assert [line.split(": ")[1] for line in errors(done)] == [str(broken)]
    done = main("--quiet", four[0], four[0].parent / "none.flac")
    assert (done.returncode, by_file(done.stdout)) == (1, {str(four[0]): alone[str(four[0])]})
    done = main("--quiet", "--timings=json", broken, *four[:2], broken)
    facts = json.loads(done.stderr.splitlines()[-1])
    assert facts["audio_s"] == pytest.approx(8 + 15, abs=0.1)
    assert [phase["name"] for phase in facts["phases"]].count("decode audio") == 4
    assert [phase["name"] for phase in facts["phases"]].count("write") == 2


def test_nothing_but_broken_files(main: Run, samples: Path, tmp_path: Path) -> None:
    broken = [samples / "short.txt", samples / "long.txt"]
    done = main("--quiet", "-o", tmp_path / "out", *broken)
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(": ")[1] for line in errors(done)] == [str(path) for path in broken]
    assert list((tmp_path / "out").iterdir()) == []


def test_text_goes_to_stdout_alone(main: Run, samples: Path) -> None:
    done = main("--quiet", samples / "short.flac")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word.isalpha() for word in done.stdout.split()) and done.stdout.endswith("\n")


def test_progress_says_what_was_done(main: Run, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PROGRESS_EVERY", math.inf)  # however slow the machine
    lines = main(samples / "short.flac").stderr.splitlines()
    assert len(lines) == 3
    assert f"model {NAME} ready in" in lines[0] and "state loading, cpu, float32" in lines[0]
    assert re.search(r"\] language: English \(en\), (100|9.)% sure$", lines[1])
    assert "short.flac: 8.0 s of audio in" in lines[2] and lines[2].endswith("times real time")
    times = [float(line[1:9]) for line in lines]
    assert times == sorted(times)
    lines = main("--load", "standard", samples / "short.flac").stderr.splitlines()
    assert "state loading skipped: --load standard" in lines[0]
    assert "standard loading" in lines[1]


def test_json_is_that_of_openai_whisper(main: Run, samples: Path) -> None:
    done = main("-f", "json", samples / "short.flac")
    document = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(document) == ["text", "segments", "language", "language_probability", "complete"]
    assert document["language"] == "en" and 0.5 < document["language_probability"] <= 1
    assert document["complete"] is True
    given = json.loads(main("-f", "json", "--language", "en", samples / "short.flac").stdout)
    assert (given["language"], given["language_probability"]) == ("en", None)
    assert document["text"] == "".join(segment["text"] for segment in document["segments"])
    fields = {"id", "seek", "start", "end", "text", "tokens", "avg_logprob", "no_speech_prob"}
    times = []
    for number, segment in enumerate(document["segments"]):
        assert segment["id"] == number and fields <= set(segment)
        times += [segment["start"], segment["end"]]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 8.0


@pytest.mark.parametrize("way", [[], ["--sequential"]])
def test_words_have_their_times(way: list[str], main: Run, samples: Path) -> None:
    """Word times are in order and within their segment, and every word has one."""
    done = main("--quiet", "--word_timestamps", "True", "-f", "json", *way, samples / "short.flac")
    document = json.loads(done.stdout)
    assert [
        word["word"].strip() for segment in document["segments"] for word in segment["words"]
    ] == document["text"].split()
    times = []
    for segment in document["segments"]:
        assert "".join(word["word"] for word in segment["words"]) == segment["text"]
        for word in segment["words"]:
            assert 0 < word["probability"] <= 1
            times += [word["start"], word["end"]]
        assert segment["start"] - 0.5 <= segment["words"][0]["start"]
        assert segment["words"][-1]["end"] <= segment["end"] + 0.5
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 8.0
    plain = json.loads(main("--quiet", "-f", "json", *way, samples / "short.flac").stdout)
    assert "words" not in plain["segments"][0]
    assert plain["text"] == document["text"]


def test_both_ways_through_a_recording_agree(main: Run, samples: Path) -> None:
    batched, sequential = (
        json.loads(main("--quiet", "-f", "json", *way, samples / "short.flac").stdout)
        for way in ([], ["--sequential"])
    )
    assert batched["text"] == sequential["text"]
    for one, other in zip(batched["segments"], sequential["segments"], strict=True):
        assert one["start"] == pytest.approx(other["start"], abs=0.2)
        assert one["end"] == pytest.approx(other["end"], abs=0.2)


def test_batch_size_makes_no_difference_to_the_words(main: Run, samples: Path) -> None:
    texts = [main("--quiet", *size, samples / "long.flac").stdout for size in ([], ["--batch_size", "1"])]
    assert texts[0] == texts[1] != ""


def test_outputs_to_a_folder(main: Run, samples: Path, silence: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    done = main("-o", out, "-f", "txt,json", samples / "short.flac", silence)
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == [
        ".transcribe.jsonl",
        "short.json",
        "short.txt",
        "silence.json",
        "silence.txt",
    ]
    text = (out / "short.txt").read_text()
    assert text == main("--quiet", samples / "short.flac").stdout
    assert json.loads((out / "short.json").read_text())["text"].split() == text.split()
    (out / "any").touch()
    assert (out / "short.txt").stat().st_mode == (out / "any").stat().st_mode


def test_a_full_disk_leaves_the_old_output(run: Run, samples: Path, tmp_path: Path) -> None:
    """With a file size limit of 0 bytes, which fails like a full disk."""
    (tmp_path / "short.txt").write_text("old")
    done = run("-o", tmp_path, samples / "short.flac", preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (0, 0)))
    assert done.returncode == 1
    assert f"short.flac: cannot write to {tmp_path}: File too large" in errors(done)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]
    assert (tmp_path / "short.txt").read_text() == "old"


def test_long_names(main: Run, samples: Path, tmp_path: Path) -> None:
    """Any that the file system accepts; with a longer one the recording fails before the work, not after."""
    out, longest = tmp_path / "out", tmp_path / ("a" * 250 + ".flac")
    too_long, odd = tmp_path / ("b" * 251), Path(f"{tmp_path}/\udcfc" + "ü" * 124)
    for path in (longest, too_long, odd):
        path.symlink_to(samples / "short.flac")
    done = main("--quiet", "-o", out, "-f", "txt,json", too_long, odd)
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.endswith("b.json: File name too long; rename the recording")
    assert sorted(out.glob("[!.]*")) == [out / f"{odd.name}.{name}" for name in ("json", "txt")]
    done = main("--quiet", "-o", out, longest, too_long)
    assert (done.returncode, done.stderr) == (0, "")
    assert "zero" in (out / f"{longest.stem}.txt").read_text()
    done = main("-o", out, "-f", "json", too_long)  # alone: nothing is loaded
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_results_that_cannot_be(main: Run, samples: Path, tmp_path: Path) -> None:
    """A folder is in its place, or the recording itself."""
    (tmp_path / "short.txt").mkdir()
    done = main("-o", tmp_path, samples / "short.flac")
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.endswith(
        f"its result cannot be written to {tmp_path}/short.txt, which is a folder; choose another with -o"
    )
    (tmp_path / "long.txt").symlink_to(samples / "short.flac")
    done = main("-o", f"{tmp_path}/../{tmp_path.name}", tmp_path / "long.txt")
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.endswith("/long.txt: its result would overwrite it; choose another folder with -o")
    assert (tmp_path / "long.txt").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.txt", "short.txt"]


def test_a_folder_that_nothing_can_be_written_to(baked: Path, samples: Path, tmp_path: Path) -> None:
    """Run without root's right to write anywhere."""
    tmp_path.chmod(0o500)
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command += [sys.executable, str(RUNTIME / "transcribe.py"), "--home", str(baked), "-o", str(tmp_path)]
    command += [str(samples / "short.flac")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    wanted = f"transcribe: cannot write to {tmp_path}: Permission denied; choose another with -o\n"
    assert (done.returncode, done.stderr) == (2, wanted)


def test_full_stdout(run: Run, samples: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("--quiet", samples / "short.flac", capture_output=False, stdout=full, stderr=PIPE)
    assert done.returncode == 1
    (line,) = errors(done)
    assert "cannot write to standard output: No space left on device" in line


def test_a_closed_pipe_is_quiet(run: Run, samples: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("--quiet", samples / "short.flac", capture_output=False, stdout=writer, stderr=PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_control_c(baked: Path, samples: Path) -> None:
    command = [
        sys.executable,
        str(RUNTIME / "transcribe.py"),
        "--home",
        str(baked),
        *[str(samples / "long.flac")] * 20,
    ]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the model is ready, the recording is begun
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    names = ", ".join([str(samples / "long.flac")] * 10)
    left = f"transcribe: interrupted; not done: {names} and 10 more\n"
    assert process.returncode == 130 and left in rest


@pytest.mark.parametrize("where", ["decode", "probabilities", "transcribe"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), 1),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bad allocation"), 1),
        (OSError(12, "Cannot allocate memory"), 1),
        (ValueError("soxr: bad rate"), 4),
        (KeyError("what"), 4),
    ],
    ids=["memory", "torch", "onnxruntime", "enomem", "soxr", "fault"],
)
def test_whatever_happens_to_a_recording_the_others_are_done(  # noqa: PLR0913, PLR0917  three are fixtures
    error: Exception, code: int, where: str, main: Run, four: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory is an error of that recording; any other exception is a bug, with its traceback."""
    alone = {str(path): main("--quiet", path).stdout for path in four}
    place, name = {
        "decode": (audiofile, "decode_file"),
        "probabilities": (vad.Detector, "probabilities"),
        "transcribe": (batched, "transcribe"),
    }[where]
    right, calls = getattr(place, name), []

    def fail_for_the_second(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return right(*arguments)

    monkeypatch.setattr(place, name, fail_for_the_second)
    done = main("--quiet", *four)
    assert done.returncode == code
    failed = {path for path in alone if path not in by_file(done.stdout)}
    assert len(failed) == 1
    assert by_file(done.stdout) == {path: text for path, text in alone.items() if path not in failed}
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"transcribe: {failed.pop()}: ")
    if code == 1:
        assert len(lines) == 1 and "; " in lines[0]
    else:
        assert "a bug in transcribe 0.1.0; please report it with the lines below" in lines[0]
        assert lines[1].startswith("Traceback") and lines[-1].startswith(type(error).__name__)


def test_a_fault_before_any_recording(main: Run, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("odd")

    monkeypatch.setattr(transcribe, "find", fail)
    done = main(samples / "short.flac")
    assert done.returncode == 4
    assert "a bug in transcribe" in done.stderr and done.stderr.endswith("AssertionError: odd\n")


def test_an_incomplete_recording_is_transcribed_and_failed(main: Run, samples: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.flac"
    cut.write_bytes((samples / "short.flac").read_bytes()[:80_000])
    done = main("--quiet", "-f", "txt,json", "-o", tmp_path / "out", cut, samples / "short.flac")
    assert done.returncode == 1
    documents = [json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("cut", "short")]
    assert [document["complete"] for document in documents] == [False, True]
    assert documents[0]["segments"] and (tmp_path / "out/cut.txt").read_text()
    (line,) = errors(done)
    assert line.endswith("; the rest is transcribed")


def test_times_are_settled(main: Run, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the decoder's times are out of order."""
    right = batched.transcribe

    def overlapping(*arguments: Any) -> Transcript:
        found = right(*arguments)
        segments = [replace(segment, start=1.0, end=30.0) for segment in found.segments]
        return replace(found, segments=segments)

    monkeypatch.setattr(batched, "transcribe", overlapping)
    document = json.loads(main("--quiet", "-f", "json", samples / "short.flac").stdout)
    times = [time for segment in document["segments"] for time in (segment["start"], segment["end"])]
    assert len(times) >= 4 and times == sorted(times) and times[-1] == 8.0
