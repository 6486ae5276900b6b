"""The command line of transcribe.py; that of state.py is in statecli.py, and nothing else knows of arguments.

Exit codes: 0 all good, 1 some input failed or is incomplete (each is named, the others are
done), 2 wrong usage, 3 no usable model, 4 a fault of this program, 130 and 143 interrupted by Ctrl-C and
SIGTERM, 141 nobody reads on.

Only light modules are imported up here: what costs time comes when nothing cheap can fail any more.
"""

import argparse
import itertools
import os
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from preheat import memory, peers, timing
from preheat.formats import SUBTITLES
from preheat.model import languages
from preheat.options import Options, UsageError
from preheat.placeoptions import add_places
from preheat.signals import Interrupted, Interruptions
from preheat.storage import RUNTIME, version
from preheat.subtitles import Lines
from preheat.timing import Log, warn
from preheat.transcribe import FAULT, Job, fault, run
from preheat.values import (
    boolean,
    count,
    increment,
    language,
    negated,
    temperatures,
    threshold,
    utf8,
)
from preheat.weights.loading import STRATEGIES, ModelError

USAGE, NO_MODEL, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141  # exit codes

Chosen = TypeVar("Chosen", Job, Options, Lines)


def transcribe(argv: list[str]) -> int:
    """The command `transcribe`; returns the exit code."""
    try:
        args = arguments(argv)
        args.asked = decoding(args)
        timing.as_json = args.log_format == "json"
        with Interruptions() as interruptions:
            return run(chosen(Job, args), Log(args.quiet), interruptions)
    except (UsageError, ModelError) as error:
        warn(str(error))
        return USAGE if isinstance(error, UsageError) else NO_MODEL
    except MemoryError as error:  # wherever it was not looked for
        warn(f"{memory.shortage(error)}; {memory.CURE}")
        return NO_MODEL
    except KeyboardInterrupt as interrupted:  # before it was known what there is to do
        warn("interrupted")
        return interrupted.code if isinstance(interrupted, Interrupted) else INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough, as in `transcribe … | head -1`
        return PIPE_CLOSED
    except Exception:
        fault("this program")
        return FAULT


class Refused(argparse.Action):
    """An option of peers.OTHERS, mostly."""

    def __call__(self, _: object, __: object, value: object, option: str | None = None) -> None:
        """Raise UsageError unless its value asks for what is done anyway."""
        other = peers.OTHERS[" ".join(self.option_strings)]
        if value not in other.done:
            raise UsageError(f"{option}: {other.hint}")


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line; leaves the process on --help, --version and what argparse itself finds wrong.

    Raises UsageError for options of others that mean nothing here.
    """
    parser = argparse.ArgumentParser(
        prog="transcribe",
        description="Write down what is said in recordings: wav, flac, mp3, m4a, ogg, webm and others.",
        epilog="Exit codes: 0 all good, 1 some input failed or is incomplete, 2 wrong usage, 3 no usable "
        "model, 4 a fault of this program.",
        allow_abbrev=False,
    )
    home = os.environ.get("TRANSCRIBE_HOME") or RUNTIME.parent
    add = parser.add_argument
    add_places(parser)
    add("-V", "--version", action="version", version=f"transcribe {version()}")
    add("--timings", choices=("text", "json"), help="print each phase; --timings=json: as one line of JSON")
    add("--quiet", action="store_true", help="on stderr, warnings and errors only")
    add("--verbose", "--print_progress", dest="quiet", type=negated, metavar="False", help="as --quiet")
    for names in peers.OTHERS:
        add(*names.split(), action=Refused, nargs="?", help=argparse.SUPPRESS)
    add_decoding(parser)
    add_lines(parser)
    add_model(parser, home)
    known = sorted((name, code) for code, name in languages.NAMES.items())
    parser.add_argument_group("languages", ", ".join(f"{name} ({code})" for name, code in known))
    # --timings may stand alone, but not take a FILE that follows for its value, as argparse would have it.
    args = parser.parse_args(["--timings=text" if word == "--timings" else word for word in argv])
    if not args.words and not args.files_from:
        parser.error("the following arguments are required: FILE")
    args.formats = list(dict.fromkeys(args.formats or ["txt"]))
    return args


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """The options of `Options`, named as openai/whisper names them, and the two ways through a recording."""
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
        ("compression_ratio", ratio, "text that zlib makes so many times smaller is wrong"),
        ("logprob", logprob, "text of a lower mean log-probability is wrong"),
        ("no_speech", defaults.no_speech_threshold, "or else silent, if that is more probable than this"),
    ):
        text = f"{meaning} (default: {default:g})"
        add(f"--{name}_threshold", type=threshold, default=default, metavar="X|None", help=text)


def add_lines(parser: argparse.ArgumentParser) -> None:
    """The options of `Lines`, named as openai/whisper names them."""
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


def add_model(parser: argparse.ArgumentParser, home: str | Path) -> None:
    """Which model, from where, to where."""
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
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if there is a GPU")
    add("--model", metavar="NAME", help="which model (default: the only one there is)")
    add("--home", type=Path, default=home, metavar="DIR", help="has state/ and model/ (default: %(default)s)")


def decoding(args: argparse.Namespace) -> Options:
    """The part of the command line that decoding wants to know. Raises UsageError."""
    if args.sequential and args.batch_size:
        raise UsageError("--sequential decodes one window at a time; leave out --batch_size")
    if args.condition_on_previous_text and not args.sequential:
        raise UsageError("--condition_on_previous_text needs one window after the other: add --sequential")
    args.condition_on_previous_text = args.condition_on_previous_text is not False
    args.temperature = temperature(args.temperature, args.temperature_increment_on_fallback)
    args.lines = lines(args)
    if args.word_timestamps is None:
        args.word_timestamps = args.lines != Lines() or not SUBTITLES.keys().isdisjoint(args.formats)
    return chosen(Options, args)


def temperature(given: tuple[float, ...] | None, increment: float | None) -> tuple[float, ...]:
    """Those to try, one after the other, of the first or all, and by how much each is higher."""
    if increment is None:
        return given or Options.temperature
    first, *more = given or (0.0,)
    if more:
        raise UsageError(
            "--temperature lists all: leave out --temperature_increment_on_fallback, or the others"
        )
    each = (first + i * increment for i in itertools.count())
    return tuple(round(value, 6) for value in itertools.takewhile(lambda value: value < 1 + 1e-6, each))


def lines(args: argparse.Namespace) -> Lines:
    """The part of the command line that the layout of subtitles wants to know. Raises UsageError."""
    asked = chosen(Lines, args)
    named = [f"--{field.name}" for field in fields(Lines) if getattr(asked, field.name)]
    if named and SUBTITLES.keys().isdisjoint(args.formats):
        raise UsageError(f"{named[0]} is for srt and vtt; add -f srt, or leave it out")
    if named and args.word_timestamps is False:
        raise UsageError(f"{named[0]} needs to know when words are said; leave out --word_timestamps False")
    return asked


def chosen(kind: type[Chosen], args: argparse.Namespace) -> Chosen:
    """The arguments that are the fields of a dataclass."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind)})
