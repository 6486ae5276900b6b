"""Adds the command's options to its parser, in the groups that --help shows."""

import argparse
from pathlib import Path

from preheat.delivery import IF_EXISTS
from preheat.formats import FORMATS
from preheat.options import Options
from preheat.values import (
    boolean,
    count,
    formats,
    increment,
    language,
    negated,
    number,
    temperatures,
    threshold,
    utf8,
)
from preheat.weights.loading import DEVICES, STRATEGIES, default_home


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to transcribe and where the results go."""
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="FILE",
        help="a recording, a folder of them, s3://bucket/key or prefix/, https://…, or - for standard input",
    )
    add(
        "--files_from",
        action="append",
        default=[],
        metavar="LIST",
        help="a file that lists recordings, one per line or separated by null bytes; - for standard input",
    )
    add(
        "--audio_track",
        type=count,
        default=0,
        metavar="N",
        help="number of the audio track to transcribe, from 1 (default: the main one)",
    )
    add(
        "--channels",
        action="store_true",
        help="transcribe each channel separately, as for phone calls",
    )
    add(
        "-o",
        "--output_dir",
        dest="outputs",
        action="append",
        default=[],
        metavar="DIR",
        help="folder or s3://bucket/prefix/ for the results; may be repeated (default: stdout)",
    )
    add(
        "--if_exists",
        choices=IF_EXISTS,
        default="replace",
        help="what to do if a recording's results already exist (default: replace them)",
    )
    add(
        "--skip_existing",
        dest="if_exists",
        action="store_const",
        const="skip",
        help="same as --if_exists skip: resume an earlier run",
    )
    add(
        "-f",
        "--output_format",
        dest="formats",
        type=formats,
        action="extend",
        metavar="FORMAT[,FORMAT…]",
        help=f"{', '.join(FORMATS)} or all (default: txt)",
    )
    add(
        "--summary",
        type=Path,
        metavar="FILE",
        help="write the outcome of each recording to this file, as JSON",
    )
    add(
        "--log_format",
        choices=("text", "json"),
        default="text",
        help="format of the messages on stderr (default: text)",
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add the decoding options in `Options`, named as in openai/whisper, and the choice of `--sequential`."""
    group = parser.add_argument_group("decoding")
    defaults = Options()
    ratio, logprob = defaults.compression_ratio_threshold, defaults.logprob_threshold
    add = group.add_argument
    add(
        "--language",
        type=language,
        metavar="LANGUAGE",
        help="spoken language, such as de or German; listed below (default: detected)",
    )
    add("--task", choices=("transcribe", "translate"), default=defaults.task, help="translate: into English")
    add(
        "--initial_prompt",
        type=utf8,
        metavar="TEXT",
        help="text given to the model as context, for names and style",
    )
    add(
        "--word_timestamps",
        type=boolean,
        metavar="True",
        help="add the time of each word to json, and cut srt and vtt by it (default: only for srt and vtt)",
    )
    add("--sequential", action="store_true", help="decode one window after another, as openai/whisper does")
    add("--batched", dest="sequential", type=negated, metavar="False", help="same as --sequential")
    add(
        "--condition_on_previous_text",
        type=boolean,
        metavar="False",
        help="with --sequential: give each window the text before it as context (default: True)",
    )
    add(
        "--batch_size",
        type=count,
        metavar="N",
        help="windows decoded at a time (default: as many as fit in memory)",
    )
    add(
        "--temperature",
        type=temperatures,
        metavar="T[,T…]",
        help="0 is greedy; the next value is tried if a threshold below is crossed (default: "
        f"{','.join(f'{t:g}' for t in defaults.temperature)})",
    )
    add(
        "--temperature_increment_on_fallback",
        type=increment,
        metavar="X|None",
        help="step from one temperature to the next, up to 1; None: no fallback",
    )
    add(
        "--best_of",
        type=count,
        default=defaults.best_of,
        metavar="N",
        help="samples per window when T > 0 (default: 5)",
    )
    for name, default, meaning in (
        ("compression_ratio", ratio, "retry when the text's zlib compression ratio exceeds this"),
        ("logprob", logprob, "retry when the mean log-probability is below this"),
        (
            "no_speech",
            defaults.no_speech_threshold,
            "skip an improbable window if no-speech is more probable than this",
        ),
    ):
        text = f"{meaning} (default: {default:g})"
        add(f"--{name}_threshold", type=threshold, default=default, metavar="X|None", help=text)


def add_cutting(parser: argparse.ArgumentParser) -> None:
    """Add the options in `Options` for cutting, named as in faster-whisper and WhisperX."""
    add = parser.add_argument_group("cutting a recording into windows, at silences").add_argument
    defaults = Options()
    add(
        "--vad_threshold",
        type=number,
        metavar="P",
        help=f"speech starts above this probability, ends 0.1 below (default: {defaults.vad_threshold})",
    )
    add(
        "--vad_min_silence_duration_ms",
        type=count,
        metavar="MS",
        help=f"a shorter silence does not end speech (default: {defaults.vad_min_silence_duration_ms})",
    )
    add(
        "--chunk_size",
        type=count,
        metavar="S",
        help="longest window in seconds, if there is a silence to cut at (default: 30)",
    )


def add_lines(parser: argparse.ArgumentParser) -> None:
    """Add the options in `Lines`, named as in openai/whisper."""
    group = parser.add_argument_group(
        "layout of srt and vtt",
        "By default, a cue lasts up to 7 s, has up to two lines of 42 characters, and ends at a sentence or "
        "pause. With any of these options, or with --word_timestamps False (one cue per segment), cues are "
        "those of openai/whisper.",
    )
    add = group.add_argument
    add("--max_line_width", type=count, metavar="N", help="most characters in a line")
    add("--max_line_count", type=count, metavar="N", help="most lines in a cue, with --max_line_width")
    add("--max_words_per_line", type=count, metavar="N", help="most words in a cue")
    add(
        "--highlight_words",
        type=boolean,
        default=False,
        metavar="True",
        help="underline each word while it is spoken",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model to load, from where, and onto which device."""
    add = parser.add_argument_group("the model").add_argument
    add(
        "--load",
        choices=("auto", *STRATEGIES),
        default="auto",
        help="from the state file or the checkpoint (default: the state file, if it is usable)",
    )
    add("--threads", type=count, metavar="N", help="CPU threads for the model (default: torch's choice)")
    add(
        "--device",
        choices=("auto", *DEVICES),
        default="auto",
        help="where the model runs (default: cuda if there is a GPU)",
    )
    add("--model", metavar="NAME", help="name of the model (default: the only one installed)")
    add(
        "--home",
        type=Path,
        default=default_home(),
        metavar="DIR",
        help="folder with state/ and model/ (default: %(default)s)",
    )
