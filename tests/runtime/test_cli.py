"""transcribe.py as its user meets it: what it prints where, its exit codes, one line for each mistake."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

import audio
import loading
import numpy as np
import options
import pytest
import reference
import soundfile
import torch
import transcribe
from options import Options

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
NAME = "whisper-nato"


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A second of nothing."""
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    return tmp_path / "silence.wav"


def errors(done: Done) -> list[str]:
    """The lines on stderr that are not progress; each must name its program."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert all(line.startswith("transcribe: ") for line in lines), done.stderr
    return lines


LAZY = """
import sys
sys.path.insert(0, {runtime!r})
import transcribe
try:
    code = transcribe.main({arguments!r})
except SystemExit as leaving:
    code = leaving.code
heavy = {{"torch", "transformers", "soundfile", "tokenizers", "numpy", "onnxruntime"}} & set(sys.modules)
print(code, *sorted(heavy))
"""


def imported_by(*arguments: str) -> list[str]:
    """Exit code and costly modules imported, of a process with these arguments."""
    code = LAZY.format(runtime=str(Path(transcribe.__file__).parent), arguments=list(arguments))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], "0"),
        (["--version"], "0"),
        (["--no-such-option"], "2"),
        (["/none.wav"], "1"),
        (["--home", "/none", "/etc/hostname"], "3"),
    ],
)
def test_nothing_costly_is_imported_for_it(arguments: list[str], code: str) -> None:
    assert imported_by(*arguments) == [code]


def test_version(main: Run) -> None:
    version = (Path(transcribe.__file__).parent / "VERSION").read_text()
    assert main("--version").stdout == f"transcribe {version}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: FILE"),
        (["--load", "magic", "a.wav"], "invalid choice"),
        (["-f", "srt", "a.wav"], "no format 'srt'; there are txt, json"),
        (["-f", "txt,json", "a.wav"], "-o DIR"),
        (["-f", "json", "a.wav", "b.wav"], "-o DIR"),
        (["-o", "out", "x/a.wav", "y/a.mp3"], "2 recordings would be written to out/a.*"),
        (["-o", "/dev/null/out", "a.wav"], "no folder /dev/null/out: Not a directory"),
        (["--timings=yaml", "a.wav"], "invalid choice"),
        (["--batch_size", "2", "--sequential", "a.wav"], "one window at a time; leave out --batch_size"),
        (["--condition_on_previous_text", "True", "a.wav"], "one window after the other: add --sequential"),
        (["--task", "dictate", "a.wav"], "invalid choice"),
        (["--temperature", "hot", "a.wav"], "'hot' is not a list of numbers from 0 to 1, as in 0,0.2,0.4"),
        (["--temperature", "0,1.5", "a.wav"], "'0,1.5' is not a list of numbers from 0 to 1"),
        (["--temperature", "-1", "a.wav"], "'-1' is not a list of numbers from 0 to 1"),
        (["--temperature", "nan", "a.wav"], "'nan' is not a list of numbers from 0 to 1"),
        (["--temperature", "", "a.wav"], "'' is not a list of numbers from 0 to 1"),
        (["--logprob_threshold", "low", "a.wav"], "'low' is neither a number nor None"),
        (["--no_speech_threshold", "", "a.wav"], "'' is neither a number nor None"),
        (["--compression_ratio_threshold", "none", "a.wav"], "'none' is neither a number nor None"),
        (["--word_timestamps", "yes", "a.wav"], "'yes' is neither True nor False"),
        (["--condition_on_previous_text", "false", "a.wav"], "'false' is neither True nor False"),
        (["--batch_size", "0", "a.wav"], "'0' is not a whole number from 1 on"),
        (["--batch_size", "1.5", "a.wav"], "'1.5' is not a whole number from 1 on"),
        (["--best_of", "-1", "a.wav"], "'-1' is not a whole number from 1 on"),
        (["--word", "True", "a.wav"], "unrecognized arguments: --word"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, main: Run, tmp_path: Path) -> None:
    done = main(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]
    assert not Path("out").exists()


def test_unknown_language(main: Run, silence: Path) -> None:
    done = main("--language", "tlh", silence)
    assert done.returncode == 2
    (line,) = errors(done)
    assert "no language tlh" in line and "de, " in line


def asked(*arguments: str) -> Options:
    """What decoding is told of a command line."""
    return options.decoding(options.arguments([*arguments, "a.wav"]))


def test_options_are_handed_on() -> None:
    assert asked() == Options()
    numbers = ["--temperature", "0.5,1", "--best_of", "3", "--logprob_threshold", "None"]
    numbers += ["--compression_ratio_threshold", "-1.5", "--no_speech_threshold", "1e-3"]
    words = [
        "--language",
        "de",
        "--task",
        "translate",
        "--initial_prompt",
        "Zürich",
        "--word_timestamps",
        "True",
    ]
    assert asked(*numbers, *words, "--sequential", "--condition_on_previous_text", "False") == Options(
        language="de",
        task="translate",
        initial_prompt="Zürich",
        condition_on_previous_text=False,
        temperature=(0.5, 1.0),
        best_of=3,
        compression_ratio_threshold=-1.5,
        logprob_threshold=None,
        no_speech_threshold=1e-3,
        word_timestamps=True,
    )
    assert asked("--sequential", "--condition_on_previous_text", "True") == Options()


def test_defaults_are_those_of_openai_whisper() -> None:
    theirs = inspect.signature(reference.package().transcribe).parameters
    ours = {field.name: field.default for field in fields(Options)}
    shared = ours.keys() & theirs.keys()
    assert shared == ours.keys() - {"language", "task", "best_of"}
    assert {name: ours[name] for name in shared} == {name: theirs[name].default for name in shared}
    # The rest has its defaults in the command line, where they stand in help texts and code.
    source = Path(str(inspect.getsourcefile(reference.package().transcribe))).read_text()
    assert '"--best_of", type=optional_int, default=5' in source
    assert '"--task", type=str, default="transcribe"' in source
    assert '"--language", type=str, default=None' in source


def test_help_names_every_option(main: Run) -> None:
    """And its percent signs are no trap."""
    text = main("--help").stdout
    names = [f"--{field.name}" for field in fields(Options)]
    names += ["--sequential", "--batch_size", "--load", "--home"]
    assert [
        name for name in [*names, "--sequential", "--batch_size", "--load", "--home"] if name not in text
    ] == []


def test_a_model_that_cannot_translate(home: Path, main: Run, silence: Path) -> None:
    """One of English only; and one whose tokenizer has no word for it."""
    path = home / "model" / NAME / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"is_multilingual": False}))
    translate = ["--home", home, "--load", "standard", "--task", "translate", silence]
    done = main(*translate)
    assert done.returncode == 2
    wanted = f"transcribe: {NAME} cannot translate; leave out --task translate"
    assert errors(done)[-1] == wanted
    assert main("--home", home, "--load", "standard", silence).returncode == 0
    path.write_text(json.dumps(settings))
    assert main(*translate).returncode == 0
    vocabulary = SimpleNamespace(multilingual=True, tasks={"transcribe": 1}, languages={"en": 2})
    model: Any = SimpleNamespace(name=NAME, vocabulary=vocabulary)
    transcribe.check_asked(Options(), model)
    with pytest.raises(options.UsageError, match="cannot translate; leave out --task translate"):
        transcribe.check_asked(Options(task="translate"), model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it checks the error where there is no GPU")
def test_no_gpu(main: Run, silence: Path) -> None:
    done = main("--device", "cuda", silence)
    assert done.returncode == 3
    assert "torch finds no GPU; see what nvidia-smi says, or use --device cpu" in errors(done)[-1]


def test_one_bad_file_does_not_stop_the_others(main: Run, samples: Path, silence: Path) -> None:
    folder = silence.parent
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("not audio")
    cut = folder / "cut.flac"
    cut.write_bytes((samples / "short.flac").read_bytes()[:50_000])
    good = samples / "short.flac"
    done = main(folder / "none.wav", folder / "empty.wav", folder / "text.wav", good, cut, folder)
    assert done.returncode == 1
    wanted = [
        "none.wav: no such file; check the name and the folder",
        "empty.wav: is empty (0 bytes); copy or record it again",
        f"{folder}: is a folder; name the recordings in it, for instance with *.wav",
        "text.wav: is not a recording, or damaged at its start; give a wav, flac, mp3 or ogg file",
        "cut.flac: is damaged or cut short after 3 s; copy it again",
    ]
    for line, end in zip(errors(done), wanted, strict=True):
        assert line.endswith(end)
    header, *words = done.stdout.splitlines()
    assert header == f"==> {good} <=="
    assert words


def test_a_file_that_goes_away_meanwhile(
    main: Run, samples: Path, silence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there at the first glance, and is not when its turn comes."""

    def find_later(home: Path, wanted: str | None) -> str:
        silence.unlink()
        return loading.find(home, wanted)

    monkeypatch.setattr(transcribe, "find", find_later)
    done = main("--quiet", silence, samples / "short.flac")
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith(f"transcribe: {silence}: cannot be read: No such file or directory; ")
    assert f"==> {samples / 'short.flac'} <==\n" in done.stdout


@pytest.fixture
def four(samples: Path, tmp_path: Path) -> list[Path]:
    """Four recordings of different words."""
    sound = audio.decode(samples / "long.flac")
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
    """Each is listened to while the one before it is transcribed; whichever is broken, in order."""
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


def test_progress_says_what_was_done(main: Run, samples: Path) -> None:
    lines = main(samples / "short.flac").stderr.splitlines()
    assert len(lines) == 2
    assert f"model {NAME} ready in" in lines[0] and "state loading, cpu, float32" in lines[0]
    assert "short.flac: 8.0 s of audio in" in lines[1] and lines[1].endswith("times real time")
    times = [float(line[1:9]) for line in lines]
    assert times == sorted(times)
    lines = main("--load", "standard", samples / "short.flac").stderr.splitlines()
    assert "state loading is not tried: --load standard" in lines[0]
    assert "standard loading" in lines[1]


def test_json_is_that_of_openai_whisper(main: Run, samples: Path) -> None:
    done = main("-f", "json", samples / "short.flac")
    document = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(document) == ["text", "segments", "language"]
    assert document["language"] == "en"
    assert document["text"] == "".join(segment["text"] for segment in document["segments"])
    fields = {"id", "seek", "start", "end", "text", "tokens", "avg_logprob", "no_speech_prob"}
    times = []
    for number, segment in enumerate(document["segments"]):
        assert segment["id"] == number and fields <= set(segment)
        times += [segment["start"], segment["end"]]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 8.0


@pytest.mark.parametrize("way", [[], ["--sequential"]])
def test_words_have_their_times(way: list[str], main: Run, samples: Path) -> None:
    """In order, within their segment, and as many as are said."""
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


def test_thresholds_arrive(main: Run, samples: Path) -> None:
    """No text is good enough, so that all windows are tried at the last temperature."""
    picky = ["--temperature", "0,0.1", "--logprob_threshold", "0", "--no_speech_threshold", "None"]
    document = json.loads(main("--quiet", *picky, "-f", "json", samples / "short.flac").stdout)
    assert {segment["temperature"] for segment in document["segments"]} == {0.1}
    silent = ["--no_speech_threshold", "0", "--logprob_threshold", "0"]
    assert main("--quiet", *silent, samples / "short.flac").stdout == ""


def test_outputs_to_a_folder(main: Run, samples: Path, silence: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    done = main("-o", out, "-f", "txt,json", samples / "short.flac", silence)
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == [
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
    """Under a limit of 0 bytes a file, which fails as a full disk does."""
    (tmp_path / "short.txt").write_text("old")
    done = run("-o", tmp_path, samples / "short.flac", preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (0, 0)))
    assert done.returncode == 1
    assert f"short.flac: cannot write to {tmp_path}: File too large" in errors(done)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]
    assert (tmp_path / "short.txt").read_text() == "old"


def test_full_stdout(run: Run, samples: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("--quiet", samples / "short.flac", capture_output=False, stdout=full, stderr=PIPE)
    assert done.returncode == 1
    (line,) = errors(done)
    assert "cannot write to standard output: No space left on device" in line


def test_timings_as_json(main: Run, samples: Path) -> None:
    done = main("--timings=json", "--quiet", samples / "short.flac")
    (line,) = done.stderr.splitlines()
    facts = json.loads(line)
    assert (facts["strategy"], facts["device"], facts["model"]) == ("state", "cpu", NAME)
    assert facts["audio_s"] == pytest.approx(8.0, abs=0.1)
    assert 0 < facts["load_s"] < facts["ready_s"] < facts["total_s"]
    assert facts["speed"] == pytest.approx(facts["audio_s"] / facts["decode_s"], rel=0.01)
    assert {phase["name"] for phase in facts["phases"]} == PHASES
    assert all(0 <= phase["start_s"] <= phase["end_s"] <= facts["total_s"] for phase in facts["phases"])


PHASES = {
    "start python",
    "import audio",
    "check header",
    "check data",
    "read ahead",
    "import torch",
    "import network",
    "load model",
    "decode audio",
    "find speech",
    "transcribe",
    "write",
}


def test_phases_overlap_where_they_can(run: Run, samples: Path) -> None:
    """One clock for all; the recording and the state file are read while torch is imported."""
    done = run("--timings=json", "--quiet", samples / "short.flac")
    facts = json.loads(done.stderr.splitlines()[-1])
    assert len(facts["phases"]) == len(PHASES)  # each of them once
    start = {phase["name"]: phase["start_s"] for phase in facts["phases"]}
    end = {phase["name"]: phase["end_s"] for phase in facts["phases"]}
    one_by_one = ["start python", "import audio", "import torch", "import network", "load model"]
    one_by_one += ["transcribe", "write"]
    for before, after in pairwise(one_by_one):
        assert end[before] <= start[after]
    assert end["load model"] <= facts["ready_s"] <= start["transcribe"]
    assert start["check header"] < start["import torch"]
    assert start["decode audio"] < end["import torch"]
    assert end["decode audio"] <= start["find speech"] and end["find speech"] <= start["transcribe"]
    assert facts["load_s"] == pytest.approx(end["load model"] - start["load model"], abs=0.002)
    assert facts["decode_s"] == pytest.approx(end["transcribe"] - start["transcribe"], abs=0.002)


def test_the_next_recording_is_listened_to_meanwhile(main: Run, samples: Path) -> None:
    done = main("--timings=json", "--quiet", samples / "long.flac", samples / "short.flac")
    phases = json.loads(done.stderr.splitlines()[-1])["phases"]
    transcribed = min(phase["end_s"] for phase in phases if phase["name"] == "transcribe")
    assert max(phase["start_s"] for phase in phases if phase["name"] == "decode audio") < transcribed


def test_standard_loading_says_nothing_else(main: Run, samples: Path) -> None:
    """Not even at the end, when what transformers imported is taken down: the last line is the report."""
    done = main("--timings=json", "--quiet", "--load", "standard", samples / "short.flac")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["strategy"] == "standard"


def test_timings_alone_print_a_table(main: Run, samples: Path) -> None:
    """And do not take the file that follows for their value."""
    done = main("--quiet", "--timings", samples / "short.flac")
    assert done.returncode == 0 and done.stdout
    assert any(line.endswith(" s  load model") for line in done.stderr.splitlines())


def damage(path: Path) -> None:
    """Flip one bit in the middle of the data."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def make_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


TROUBLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (damage, "is damaged: chunk 0"),
    "cut": (lambda path: os.truncate(path, 4_000_000), "bytes of tensors, its header says"),
    "missing": (lambda path: path.unlink(), "No such file or directory"),
    "a folder": (make_folder, "Is a directory"),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_bad_state_file_is_a_warning(kind: str, home: Path, main: Run, samples: Path) -> None:
    """The same words come by standard loading; --load state would rather fail."""
    wanted = main("--quiet", samples / "short.flac").stdout
    state = home / f"state/{NAME}.safetensors"
    trouble, words = TROUBLES[kind]
    trouble(state)
    done = main("--quiet", "--home", home, "--timings=json", samples / "short.flac")
    assert (done.returncode, done.stdout) == (0, wanted)
    warning, timings = done.stderr.splitlines()
    assert str(state) in warning and words in warning
    assert warning.endswith("run state.py bake again; going on with standard loading")
    assert json.loads(timings)["strategy"] == "standard"
    done = main("--home", home, "--load", "state", samples / "short.flac")
    assert (done.returncode, done.stdout) == (3, "")
    assert words in errors(done)[-1]


def test_neither_state_file_nor_checkpoint(home: Path, main: Run, samples: Path) -> None:
    damage(home / f"state/{NAME}.safetensors")
    (home / "model" / NAME / "model.safetensors").unlink()
    done = main("--home", home, samples / "short.flac")
    assert (done.returncode, done.stdout) == (3, "")
    last = errors(done)[-1]
    assert "is damaged: chunk 0" in last and "run state.py bake again; and no usable checkpoint" in last
    assert last.endswith("fetch the model again")


def test_which_model(home: Path, main: Run, silence: Path) -> None:
    shutil.copytree(home / "model" / NAME, home / "model/other")
    assert "2 models in" in errors(done := main("--home", home, silence))[-1] and done.returncode == 3
    assert main("--home", home, "--model", NAME, silence).returncode == 0
    done = main("--home", home, "--model", "../model/other", silence)
    assert done.returncode == 3
    assert errors(done)[-1].endswith(f"choose one with --model: other, {NAME}")
    shutil.rmtree(home / "model")
    shutil.rmtree(home / "state")
    done = main("--home", home, silence)
    assert done.returncode == 3 and "name the folder that holds them with --home" in errors(done)[-1]


def test_home_by_the_environment(home: Path, silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIBE_HOME", str(home))
    assert transcribe.main(["--quiet", str(silence)]) == 0


def test_a_closed_pipe_is_quiet(run: Run, samples: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("--quiet", samples / "short.flac", capture_output=False, stdout=writer, stderr=PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_control_c(baked: Path, samples: Path) -> None:
    command = [sys.executable, transcribe.__file__, "--home", str(baked), str(samples / "long.flac")]
    # A shell's background job ignores the signal and hands that on; Ctrl-C is for one in the foreground.
    command = ["env", "--default-signal=INT", *command]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the model is ready, the recording is begun
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert (process.returncode, rest) == (130, "transcribe: interrupted\n")
