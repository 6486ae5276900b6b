"""Options of other Whisper commands: each is accepted, mapped, or refused with a hint."""

import inspect
import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import whisper

from preheat import cli, options, peers
from tests.runtime.console import Run, errors

# The options of each command, each with a value that is not the default there or here; "" if it takes none.
OPENAI = {  # openai-whisper 20250625, whisper/transcribe.py
    "--model": "base",
    "--model_dir": "models",
    "--device": "cpu",
    "--output_dir": "out",
    "-o": "out",
    "--output_format": "srt",
    "-f": "srt",
    "--verbose": "False",
    "--task": "translate",
    "--language": "German",
    "--temperature": "0.5",
    "--best_of": "3",
    "--beam_size": "5",
    "--patience": "2",
    "--length_penalty": "0.5",
    "--suppress_tokens": "",
    "--initial_prompt": "Names",
    "--carry_initial_prompt": "True",
    "--condition_on_previous_text": "False",
    "--fp16": "False",
    "--temperature_increment_on_fallback": "0.5",
    "--compression_ratio_threshold": "2",
    "--logprob_threshold": "None",
    "--no_speech_threshold": "0.5",
    "--word_timestamps": "True",
    "--prepend_punctuations": "(",
    "--append_punctuations": ")",
    "--highlight_words": "True",
    "--max_line_width": "40",
    "--max_line_count": "2",
    "--max_words_per_line": "5",
    "--threads": "1",
    "--clip_timestamps": "5,10",
    "--hallucination_silence_threshold": "2",
}
NOT_IN_CTRANSLATE2 = {"--fp16", "--clip_timestamps", "--carry_initial_prompt"}
CTRANSLATE2 = {  # whisper-ctranslate2 0.5.8, src/whisper_ctranslate2/commandline.py
    **{name: value for name, value in OPENAI.items() if name not in NOT_IN_CTRANSLATE2},
    "--model_directory": "model",
    "--local_files_only": "False",
    "--pretty_json": "True",
    "-p": "True",
    "--print_colors": "True",
    "--device_index": "1",
    "--compute_type": "int8",
    "--prompt_reset_on_temperature": "0.3",
    "--prefix": "Well",
    "--suppress_blank": "False",
    "--repetition_penalty": "1.2",
    "--no_repeat_ngram_size": "3",
    "--hotwords": "Names",
    "--batched": "False",
    "--batch_size": "4",
    "--multilingual": "True",
    "--vad_filter": "False",
    "--vad_threshold": "0.3",
    "--vad_min_speech_duration_ms": "100",
    "--vad_max_speech_duration_s": "20",
    "--vad_min_silence_duration_ms": "500",
    "--version": "",
    "--hf_token": "secret",
    "--speaker_name": "VOICE",
    "--speaker_num": "3",
    "--live_transcribe": "True",
    "--live_volume_threshold": "0.1",
    "--live_input_device": "1",
    "--live_input_device_sample_rate": "8000",
}
OF_OPENAI = """--model --model_dir --device --output_dir -o --output_format -f --verbose --task --language
    --temperature --best_of --beam_size --patience --length_penalty --suppress_tokens --initial_prompt --fp16
    --condition_on_previous_text --temperature_increment_on_fallback --compression_ratio_threshold
    --logprob_threshold --no_speech_threshold --highlight_words --max_line_width --max_line_count --threads"""
WHISPERX = {  # WhisperX 3.8.6, whisperx/__main__.py
    **{name: OPENAI[name] for name in OF_OPENAI.split()},
    "--model_cache_only": "False",
    "--device_index": "1",
    "--batch_size": "4",
    "--compute_type": "int8",
    "--log-level": "debug",
    "--align_model": "WAV2VEC2",
    "--interpolate_method": "linear",
    "--no_align": "",
    "--return_char_alignments": "",
    "--vad_method": "pyannote",
    "--vad_onset": "0.3",
    "--vad_offset": "0.2",
    "--chunk_size": "20",
    "--diarize": "",
    "--min_speakers": "2",
    "--max_speakers": "4",
    "--diarize_model": "pyannote",
    "--speaker_embeddings": "",
    "--suppress_numerals": "",
    "--hotwords": "Names",
    "--segment_resolution": "chunk",
    "--hf_token": "secret",
    "--print_progress": "False",
    "--version": "",
    "-V": "",
    "--python-version": "",
    "-P": "",
}
LATER = {"--timestamp_sanitize": ""}  # WhisperX after that
EVERY = {**OPENAI, **CTRANSLATE2, **WHISPERX, **LATER}
MAPPED = {  # options that change our defaults, and how
    "--verbose": {"quiet": True},
    "--print_progress": {"quiet": True},
    "--batched": {"sequential": True},
    "--temperature_increment_on_fallback": {"temperature_increment_on_fallback": 0.5},
    "--output_dir": {"outputs": ["out"]},
    "--output_format": {"formats": ["srt"]},
}


def parsed(*arguments: str) -> Namespace:
    return cli.arguments([*arguments, "a.wav"])


def test_the_list_of_openai_whisper_is_whole() -> None:
    """Compared with the installed version."""
    source = Path(str(inspect.getsourcefile(whisper.transcribe))).read_text()
    added = re.findall(r'add_argument\((".*?"), (?:(".*?"), )?', source)
    names = {name.strip('"') for pair in added for name in pair if name.startswith('"-')}
    assert names == OPENAI.keys()


@pytest.mark.parametrize("name", EVERY)
def test_no_option_is_ignored(name: str) -> None:
    """Each changes what is done, or is refused with a hint what to do."""
    arguments = [name, *filter(None, [EVERY[name]])]
    try:
        changed = vars(parsed(*arguments))
    except options.UsageError as error:
        assert str(error).startswith(f"{name}: ") and len(str(error).split()) >= 5
        hints = ("leave it out", "--", "first", "jq")
        assert any(hint in str(error).removeprefix(name) for hint in hints) and "\n" not in str(error)
    except SystemExit as leaving:
        assert leaving.code == 0 and name in ("--version", "-V")
    else:
        ours = vars(parsed())
        changes = {key: value for key, value in changed.items() if value != ours[key]}
        assert len(changes) == 1
        assert changes == MAPPED.get(name, changes)


def test_what_is_done_anyway_is_taken() -> None:
    ours = parsed()
    for names, other in peers.OTHERS.items():
        for value in other.done:
            assert parsed(names.split()[-1], value) == ours
    for name in ("--verbose", "--print_progress", "--batched"):
        assert parsed(name, "True") == ours


def test_every_refusal_is_of_an_option_that_others_have() -> None:
    assert [name for names in peers.OTHERS for name in names.split() if name not in EVERY] == []


def test_a_refusal_is_one_line(main: Run) -> None:
    done = main("--beam_size", "5", "a.wav")
    assert (done.returncode, done.stdout) == (2, "")
    assert errors(done) == ["transcribe: --beam_size: beam search is not supported yet; leave it out"]


@pytest.mark.parametrize("first", ["0", "0.5", "1"])
@pytest.mark.parametrize("increment", ["0.2", "0.3", "0.0666667", "1", "5"])
def test_temperatures_as_openai_whisper_counts_them(first: str, increment: str) -> None:
    wanted = np.arange(float(first), 1.0 + 1e-6, float(increment))  # as in its transcribe.py
    args = parsed("--temperature", first, "--temperature_increment_on_fallback", increment)
    assert cli.decoding(args).temperature == pytest.approx(tuple(wanted), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (["--temperature_increment_on_fallback", "0.5"], (0.0, 0.5, 1.0)),
        (["--temperature_increment_on_fallback", "None"], (0.0,)),
        (["--temperature", "0.4", "--temperature_increment_on_fallback", "None"], (0.4,)),
        (["--temperature", "0"], (0.0,)),
    ],
)
def test_temperatures(arguments: list[str], wanted: tuple[float, ...]) -> None:
    assert cli.decoding(parsed(*arguments)).temperature == wanted


def test_threads(main: Run, samples: Path) -> None:
    import torch  # noqa: PLC0415  only here

    before = torch.get_num_threads()
    try:
        for count in (2, 1):
            assert main("--quiet", "--threads", str(count), samples / "short.flac").returncode == 0
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
