"""cli.py from the command line: the options, and one line for each mistake."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import whisper

from preheat import cli, transcriber
from preheat.options import Options, UsageError
from preheat.subtitles import Lines
from tests.runtime.console import NAME, Run, errors
from tests.runtime.handmade import header_of, with_header
from tests.runtime.homes import RUNTIME

LAZY = """
import os, sys
from preheat import cli
try:
    code = cli.transcribe({arguments!r})
except SystemExit as leaving:
    code = leaving.code
heavy = {{"torch", "transformers", "soundfile", "tokenizers", "numpy", "onnxruntime"}} & set(sys.modules)
print(code, *sorted(heavy), flush=True)
os._exit(0)  # as the program does: a thread may be in the middle of something
"""


def imported_by(*arguments: str) -> list[str]:
    """Exit code and costly modules imported, of a process with these arguments."""
    code = LAZY.format(arguments=list(arguments))
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
    version = (RUNTIME / "VERSION").read_text()
    assert main("--version").stdout == f"transcribe {version}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: FILE"),
        (["--load", "magic", "a.wav"], "invalid choice"),
        (["-f", "aud", "a.wav"], "unknown format 'aud'; choose from txt, srt, vtt, tsv, json, all"),
        (["-f", "txt,", "a.wav"], "unknown format ''; choose from txt"),
        (["-f", "txt,json", "a.wav"], "-o DIR"),
        (["-f", "txt", "-f", "srt", "a.wav"], "give a folder with -o DIR, such as -o ."),
        (["-f", "all", "a.wav"], "-o DIR"),
        (["-f", "json", "a.wav", "b.wav"], "several json files; give a folder with -o DIR"),
        (["-f", "srt", "a.wav", "b.wav"], "several srt files; give a folder with -o DIR"),
        (["--vad_threshold", "x", "a.wav"], "'x' is not a number"),
        (
            ["--vad_threshold", "1.5", "a.wav"],
            "vad_threshold is 1.5; it must be a probability, between 0 and 1",
        ),
        (["--vad_threshold", "nan", "a.wav"], "vad_threshold is nan; it must be"),
        (["--vad_min_silence_duration_ms", "0.5", "a.wav"], "'0.5' is not a whole number"),
        (["--chunk_size", "31", "a.wav"], "chunk_size is 31; it must be 1 to 30 s, the length of Whisper's"),
        (["--sequential", "--chunk_size", "20", "a.wav"], "does not cut at silences; leave out --chunk_size"),
        (["--sequential", "--vad_threshold", "0.5", "a.wav"], "silences; leave out --vad_threshold"),
        (["--max_line_width", "40", "a.wav"], "--max_line_width is for srt and vtt; add -f srt, or leave"),
        (["--highlight_words", "True", "-f", "tsv", "a.wav"], "--highlight_words is for srt and vtt; add"),
        (
            ["-f", "srt", "--word_timestamps", "False", "--max_words_per_line", "4", "a.wav"],
            "--max_words_per_line needs word timestamps; leave out --word_timestamps False",
        ),
        (["-f", "srt", "--max_line_count", "0", "a.wav"], "'0' is not a whole number of 1 or more"),
        (["-", "-", "a.wav"], "standard input is named 2 times; it can be read only once"),
        (["--if_exists", "ask", "a.wav"], "invalid choice"),
        (["--files_from", "none"], "--files_from none: No such file or directory; check the name"),
        (
            ["--summary", "none/a.json", "a.wav"],
            "--summary none/a.json: No such file or directory; name another",
        ),
        (["s3://"], "'' is not a valid bucket name; write s3://bucket/key or s3://bucket/prefix/"),
        (
            ["-o", "s3://A_B/out", "a.wav"],
            "'A_B' is not a valid bucket name; write s3://bucket/key or s3://bucket/",
        ),
        (["s3://bucket/caf\udce9.wav"], "its name is not UTF-8, as S3 requires; rename it"),
        (["-o", "/dev/null/out", "a.wav"], "no folder /dev/null/out: Not a directory"),
        (["--timings=yaml", "a.wav"], "invalid choice"),
        (["--batch_size", "2", "--sequential", "a.wav"], "one window at a time; leave out --batch_size"),
        (["--condition_on_previous_text", "True", "a.wav"], "works only with --sequential; add it"),
        (["--task", "dictate", "a.wav"], "invalid choice"),
        (["--temperature", "hot", "a.wav"], "'hot' is not a list of numbers from 0 to 1, as in 0,0.2,0.4"),
        (["--temperature", "0,1.5", "a.wav"], "'0,1.5' is not a list of numbers from 0 to 1"),
        (["--temperature", "-1", "a.wav"], "'-1' is not a list of numbers from 0 to 1"),
        (["--temperature", "nan", "a.wav"], "'nan' is not a list of numbers from 0 to 1"),
        (["--temperature", "", "a.wav"], "'' is not a list of numbers from 0 to 1"),
        (
            ["--temperature", "0,1", "--temperature_increment_on_fallback", "0.2", "a.wav"],
            "leave out --temperature_increment_on_fallback or all but one",
        ),
        (["--temperature_increment_on_fallback", "0", "a.wav"], "'0' is not a number above 0, nor None"),
        (["--threads", "0", "a.wav"], "'0' is not a whole number of 1 or more"),
        (["--verbose", "no", "a.wav"], "'no' is neither True nor False"),
        (["--logprob_threshold", "low", "a.wav"], "'low' is neither a number nor None"),
        (["--logprob_threshold", "nan", "a.wav"], "'nan' is neither a number nor None"),
        (["--no_speech_threshold", "", "a.wav"], "'' is neither a number nor None"),
        (["--compression_ratio_threshold", "none", "a.wav"], "'none' is neither a number nor None"),
        (["--word_timestamps", "yes", "a.wav"], "'yes' is neither True nor False"),
        (["--condition_on_previous_text", "false", "a.wav"], "'false' is neither True nor False"),
        (["--batch_size", "0", "a.wav"], "'0' is not a whole number of 1 or more"),
        (["--batch_size", "1.5", "a.wav"], "'1.5' is not a whole number of 1 or more"),
        (["--best_of", "-1", "a.wav"], "'-1' is not a whole number of 1 or more"),
        (["--language", "tlh", "a.wav"], "unknown language 'tlh'; --help lists all"),
        (["--language", "germn", "a.wav"], "unknown language 'germn'; did you mean german (de) or "),
        (
            ["--language", "de-AT", "a.wav"],
            "unknown language 'de-AT'; did you mean german (de)? --help lists all",
        ),
        (["--language", "", "a.wav"], "unknown language ''; --help lists all"),
        (["--word", "True", "a.wav"], "unrecognized arguments: --word"),
    ],
)
def test_wrong_usage(
    arguments: list[str], words: str, main: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = main(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "code", "line"),
    [
        ("--initial_prompt", 2, "error: argument --initial_prompt: it is not UTF-8; convert it with iconv"),
        ("--model", 3, "no model caf\\xe9 in"),
        ("--home", 3, "no model in caf\\xe9"),
        ("-o", 0, ""),
    ],
)
def test_bytes_that_are_no_text(  # noqa: PLR0913, PLR0917  fixtures, mostly
    option: str, code: int, line: str, run: Run, samples: Path, tmp_path: Path, baked: Path
) -> None:
    """In a prompt they are wrong usage, found early; in file names they are allowed, and printed escaped."""
    home = ["--home", "caf\udce9" if option == "--home" else baked]
    arguments = [] if option == "--home" else [option, "caf\udce9"]
    done = run("--quiet", *arguments, *home, samples / "short.flac", cwd=tmp_path)
    assert done.returncode == code
    assert line in done.stderr and "Traceback" not in done.stderr
    if option == "-o":
        assert "zero" in (tmp_path / "caf\udce9" / "short.txt").read_text()


def test_a_prompt_is_utf8_whatever_the_locale() -> None:
    """In an ASCII locale, Python passes undecodable bytes on as surrogates."""
    code = "import sys; from preheat import values; print(ascii(values.utf8(sys.argv[1])))"
    command = [sys.executable, "-c", code, "Zürich"]
    for settings in ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}):
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "'Z\\xfcrich'\n"


@pytest.fixture
def english(home: Path) -> Path:
    """A home whose model, by its state file as by its checkpoint, knows English only."""
    path = home / f"state/{NAME}.safetensors"
    header, data = header_of(path.read_bytes())
    settings = json.loads(header["__metadata__"]["generation"]) | {"is_multilingual": False}
    header["__metadata__"]["generation"] = json.dumps(settings)
    path.write_bytes(with_header(header, data))
    (home / "model" / NAME / "generation_config.json").write_text(json.dumps(settings))
    return home


UNFIT = {
    ("--language", "German"): f"{NAME} does not support the language de; it supports en",
    ("--task", "translate"): f"{NAME} cannot translate; leave out --task translate",
}


@pytest.mark.parametrize("wanted", UNFIT)
def test_what_a_model_cannot_is_known_before_torch(
    wanted: tuple[str, str], english: Path, main: Run, samples: Path
) -> None:
    """From its state file; without a usable one, after loading the checkpoint."""
    arguments = [*wanted, "--home", str(english), str(samples / "short.flac")]
    code, *heavy = imported_by(*arguments)
    assert code == "2" and "torch" not in heavy
    for way in ("auto", "state", "standard"):
        done = main("--load", way, *arguments)
        assert done.returncode == 2 and errors(done) == [f"transcribe: {UNFIT[wanted]}"]
        assert ("ready in" in done.stderr) == (way == "standard")
    (english / f"state/{NAME}.safetensors").write_bytes(b"damaged")
    done = main(*arguments)
    assert done.returncode == 2 and errors(done)[1:] == [f"transcribe: {UNFIT[wanted]}"]


def test_what_a_model_can(english: Path, main: Run, samples: Path) -> None:
    for way in ("state", "standard"):
        done = main(
            "--quiet", "--load", way, "--language", "English", "--home", english, samples / "short.flac"
        )
        assert (done.returncode, done.stderr) == (0, "") and "zero" in done.stdout


def asked(*arguments: str) -> Options:
    """The decoding options that a command line gives."""
    return cli.decoding(cli.arguments([*arguments, "a.wav"]))


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


@pytest.mark.parametrize(
    ("arguments", "formats", "by_words"),
    [
        ([], ["txt"], False),
        (["-f", "json,tsv"], ["json", "tsv"], False),
        (["-f", "srt"], ["srt"], True),
        (["--output_format", "all"], ["txt", "srt", "vtt", "tsv", "json"], True),
        (["-f", "vtt", "-f", "json,vtt", "-f", "all"], ["vtt", "json", "txt", "srt", "tsv"], True),
        (["-f", "srt", "--word_timestamps", "False"], ["srt"], False),
        (["-f", "json", "--word_timestamps", "True"], ["json"], True),
    ],
)
def test_formats(arguments: list[str], formats: list[str], by_words: bool) -> None:
    """Each once; subtitles are made from words."""
    args = cli.arguments([*arguments, "a.wav"])
    assert args.formats == formats
    assert cli.decoding(args).word_timestamps is by_words


def test_lines_are_handed_on() -> None:
    given = ["--max_line_width", "40", "--max_line_count", "2", "--max_words_per_line", "5"]
    args = cli.arguments([*given, "--highlight_words", "True", "-f", "srt", "a.wav"])
    assert cli.lines(args) == Lines(40, 2, 5, highlight_words=True)
    assert cli.lines(cli.arguments(["-f", "srt", "a.wav"])) == Lines()


def test_defaults_are_those_of_openai_whisper() -> None:
    theirs = inspect.signature(whisper.transcribe).parameters
    ours = {field.name: field.default for field in fields(Options)}
    shared = ours.keys() & theirs.keys()
    # Options that openai/whisper does not have.
    alone = {"vad_threshold", "vad_min_silence_duration_ms", "chunk_size", "audio_track", "channels"}
    assert shared == ours.keys() - {"language", "task", "best_of"} - alone
    assert {name: ours[name] for name in shared} == {name: theirs[name].default for name in shared}
    # The defaults of the others are set by its command line: look for them in the source.
    source = Path(str(inspect.getsourcefile(whisper.transcribe))).read_text()
    assert '"--best_of", type=optional_int, default=5' in source
    assert '"--task", type=str, default="transcribe"' in source
    assert '"--language", type=str, default=None' in source


def test_help_names_every_option(main: Run) -> None:
    """And percent signs in help texts are escaped."""
    text = main("--help").stdout
    names = [f"--{field.name}" for field in fields(Options)]
    names += ["--sequential", "--batch_size", "--load", "--home"]
    assert [
        name for name in [*names, "--sequential", "--batch_size", "--load", "--home"] if name not in text
    ] == []


def test_a_model_that_cannot_translate(home: Path, main: Run, silence: Path) -> None:
    """An English-only one, and one whose tokenizer lacks <|translate|>."""
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
    vocabulary: Any = SimpleNamespace(multilingual=True, tasks={"transcribe": 1}, languages={"en": 2})
    transcriber.check_asked(Options(), NAME, vocabulary)
    with pytest.raises(UsageError, match="cannot translate; leave out --task translate"):
        transcriber.check_asked(Options(task="translate"), NAME, vocabulary)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "summarize"}, "task is summarize; it must be transcribe or translate"),
        ({"temperature": ()}, r"temperature is \(\); it must be a tuple of numbers from 0 to 1"),
        ({"temperature": (0.0, 1.5)}, r"temperature is \(0.0, 1.5\); it must be"),
        ({"best_of": 0}, "best_of is 0; it must be a whole number of 1 or more"),
        (
            {"audio_track": -1},
            "audio_track is -1; it must be a whole number of 1 or more, or 0 for the main one",
        ),
        ({"vad_threshold": 0}, "vad_threshold is 0; it must be"),
        ({"vad_min_silence_duration_ms": -1}, "vad_min_silence_duration_ms is -1; it must be 0 ms or more"),
        ({"chunk_size": 0.5}, "chunk_size is 0.5; it must be 1 to 30 s"),
    ],
)
def test_values_that_mean_nothing(values: dict[str, Any], words: str) -> None:
    """From programs; the command line has its own messages for most of them."""
    with pytest.raises(UsageError, match=f"^{words}"):
        Options(**values)


def test_how_to_cut_arrives(main: Run, samples: Path) -> None:
    """Windows get shorter, include longer silences, or start only at very probable speech."""

    def windows(*options: str) -> list[int]:
        document = json.loads(main("--quiet", "-f", "json", *options, samples / "long.flac").stdout)
        return sorted({segment["seek"] for segment in document["segments"]})

    assert len(windows("--chunk_size", "5")) > len(windows())
    assert len(windows("--vad_min_silence_duration_ms", "9000")) < len(windows())
    assert windows("--vad_threshold", "0.9999")[0] > windows()[0]


def test_thresholds_arrive(main: Run, samples: Path) -> None:
    """No result passes, so all windows are tried at the second temperature, and its results are better.

    The first is 1, not 0.5, where the samples may be the same as at 0, and rounding would decide.
    """
    for picky, temperature in (
        (["--logprob_threshold", "0", "--no_speech_threshold", "None"], 0.0),
        ([], 1.0),
    ):
        tries = ["--quiet", "--temperature", "1,0", *picky, "-f", "json"]
        document = json.loads(main(*tries, samples / "short.flac").stdout)
        assert {segment["temperature"] for segment in document["segments"]} == {temperature}
    silent = ["--no_speech_threshold", "0", "--logprob_threshold", "0"]
    assert main("--quiet", *silent, samples / "short.flac").stdout == ""
