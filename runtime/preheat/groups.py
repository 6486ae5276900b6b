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
        help="a file with further ones, one a line, or with null bytes between; - for standard input",
    )
    add(
        "--audio_track",
        type=count,
        default=0,
        metavar="N",
        help="which one of several, as in videos, from 1 on (default: the main one)",
    )
    add(
        "--channels",
        action="store_true",
        help="each channel on its own, as of calls: left and right, or 1 to N",
    )
    add(
        "-o",
        "--output_dir",
        dest="outputs",
        action="append",
        default=[],
        metavar="DIR",
        help="write to files there, a folder or s3://bucket/prefix/; -o twice: to both (default: to stdout)",
    )
    add(
        "--if_exists",
        choices=IF_EXISTS,
        default="replace",
        help="what to do with a recording whose results are there (default: replace them)",
    )
    add(
        "--skip_existing",
        dest="if_exists",
        action="store_const",
        const="skip",
        help="as --if_exists skip: go on where an earlier run has stopped",
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
    add("--summary", type=Path, metavar="FILE", help="write there, as JSON, what became of each recording")
    add(
        "--log_format",
        choices=("text", "json"),
        default="text",
        help="of what is told on stderr (default: text)",
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add the decoding options in `Options`, named as in openai/whisper, and the choice of `--sequential`."""
    group = parser.add_argument_group("how to transcribe")
    defaults = Options()
    ratio, logprob = defaults.compression_ratio_threshold, defaults.logprob_threshold
    add = group.add_argument
    add(
        "--language",
        type=language,
        metavar="LANGUAGE",
        help="what is spoken, as de or German; all are named below (default: detected)",
    )
    add("--task", choices=("transcribe", "translate"), default=defaults.task, help="translate: to English")
    add("--initial_prompt", type=utf8, metavar="TEXT", help="text to go before, for names and style")
    add(
        "--word_timestamps",
        type=boolean,
        metavar="True",
        help="when each word is said: in json, and to cut srt and vtt by (default: for these)",
    )
    add("--sequential", action="store_true", help="one window after the other, as openai/whisper does")
    add("--batched", dest="sequential", type=negated, metavar="False", help="as --sequential")
    add(
        "--condition_on_previous_text",
        type=boolean,
        metavar="False",
        help="with --sequential: whether each window is told the text before it (default: True)",
    )
    add("--batch_size", type=count, metavar="N", help="windows at a time (default: by the free memory)")
    add(
        "--temperature",
        type=temperatures,
        metavar="T[,T…]",
        help="0 takes the most probable token; the next one is tried where text looks wrong (default: "
        f"{','.join(f'{t:g}' for t in defaults.temperature)})",
    )
    add(
        "--temperature_increment_on_fallback",
        type=increment,
        metavar="X|None",
        help="by which each further temperature is higher, up to 1; None: there is none",
    )
    add(
        "--best_of",
        type=count,
        default=defaults.best_of,
        metavar="N",
        help="samples where T > 0 (default: 5)",
    )
    for name, default, meaning in (
        ("compression_ratio", ratio, "retry when the text's zlib compression ratio exceeds this"),
        ("logprob", logprob, "retry when the mean log-probability is below this"),
        (
            "no_speech",
            defaults.no_speech_threshold,
            "an improbable window is silent above this probability",
        ),
    ):
        text = f"{meaning} (default: {default:g})"
        add(f"--{name}_threshold", type=threshold, default=default, metavar="X|None", help=text)


def add_cutting(parser: argparse.ArgumentParser) -> None:
    """Add the options in `Options` for cutting, named as in faster-whisper and WhisperX."""
    add = parser.add_argument_group("how to cut a recording into windows, at its silences").add_argument
    defaults = Options()
    add(
        "--vad_threshold",
        type=number,
        metavar="P",
        help=f"speech begins above this probability, and ends 0.1 below (default: {defaults.vad_threshold})",
    )
    add(
        "--vad_min_silence_duration_ms",
        type=count,
        metavar="MS",
        help=f"a shorter silence is part of the speech (default: {defaults.vad_min_silence_duration_ms})",
    )
    add(
        "--chunk_size",
        type=count,
        metavar="S",
        help="seconds that a window may have, where there is a silence to cut at (default: 30)",
    )


def add_lines(parser: argparse.ArgumentParser) -> None:
    """Add the options in `Lines`, named as in openai/whisper."""
    group = parser.add_argument_group(
        "how to lay out srt and vtt",
        "By default cues of up to 7 s and two lines of 42 characters, cut at sentences and pauses. With any "
        "of these options openai/whisper's; with --word_timestamps False its cues, too, one a segment.",
    )
    add = group.add_argument
    add("--max_line_width", type=count, metavar="N", help="characters in a line")
    add("--max_line_count", type=count, metavar="N", help="lines in a cue, with --max_line_width")
    add("--max_words_per_line", type=count, metavar="N", help="words in a cue")
    add("--highlight_words", type=boolean, default=False, metavar="True", help="underline each as it is said")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model to load, from where, and onto which device."""
    add = parser.add_argument_group("the model").add_argument
    add(
        "--load",
        choices=("auto", *STRATEGIES),
        default="auto",
        help="state file or checkpoint (default: state, if it works)",
    )
    add(
        "--threads", type=count, metavar="N", help="of the processor, for the model (default: torch's choice)"
    )
    add("--device", choices=("auto", *DEVICES), default="auto", help="default: cuda if there is a GPU")
    add("--model", metavar="NAME", help="which model (default: the only one there is)")
    add(
        "--home",
        type=Path,
        default=default_home(),
        metavar="DIR",
        help="has state/ and model/ (default: %(default)s)",
    )
