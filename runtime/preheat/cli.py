"""The command line of transcribe.py; that of state.py is in statecli.py.

Exit codes: 0 all good, 1 some input failed or is incomplete (each is named, the others are done), 2 wrong
usage, 3 no usable model, 4 a bug in this program, 130 interrupted by Ctrl-C, 143 terminated by SIGTERM, 141
the reader of the output has closed its pipe.

Only light modules are imported at the top: expensive imports wait until the cheap checks have passed.
"""

import argparse
import itertools
from dataclasses import fields
from typing import TypeVar

from preheat import memory, peers, timing
from preheat.formats import SUBTITLES
from preheat.groups import add_cutting, add_decoding, add_lines, add_model, add_places
from preheat.model import languages
from preheat.options import Options, UsageError
from preheat.signals import Interrupted, Interruptions
from preheat.storage import version
from preheat.subtitles import Lines
from preheat.timing import Log, warn
from preheat.transcribe import FAULT, Job, fault, run
from preheat.values import negated
from preheat.weights.loading import ModelError

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
    except MemoryError as error:  # raised where nothing more specific handles it
        warn(f"{memory.shortage(error)}; {memory.CURE}")
        return NO_MODEL
    except KeyboardInterrupt as interrupted:  # before any recording was looked at
        warn("interrupted")
        return interrupted.code if isinstance(interrupted, Interrupted) else INTERRUPTED
    except BrokenPipeError:  # the reader has stopped reading, as in `transcribe … | head -1`
        return PIPE_CLOSED
    except Exception:
        fault("this program")
        return FAULT


class Refused(argparse.Action):
    """The action of an option in peers.OTHERS: refuses all but its harmless values."""

    def __call__(self, _: object, __: object, value: object, option: str | None = None) -> None:
        """Raise UsageError unless the value asks for what this program does anyway."""
        other = peers.OTHERS[" ".join(self.option_strings)]
        if value not in other.done:
            raise UsageError(f"{option}: {other.hint}")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; exits on --help, --version and the errors that argparse finds itself.

    Raises UsageError for options of other Whisper commands that are refused here.
    """
    parser = argparse.ArgumentParser(
        prog="transcribe",
        description="Transcribe recordings: wav, flac, mp3, m4a, ogg, webm and others.",
        epilog="Exit codes: 0 all good, 1 some input failed or is incomplete, 2 wrong usage, 3 no usable "
        "model, 4 a bug in this program.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add_places(parser)
    add("-V", "--version", action="version", version=f"transcribe {version()}")
    add(
        "--timings",
        choices=("text", "json"),
        help="print how long each phase took; --timings=json: as one line of JSON",
    )
    add("--quiet", action="store_true", help="print only warnings and errors to stderr")
    add("--verbose", "--print_progress", dest="quiet", type=negated, metavar="False", help="same as --quiet")
    for names in peers.OTHERS:
        add(*names.split(), action=Refused, nargs="?", help=argparse.SUPPRESS)
    add_decoding(parser)
    add_cutting(parser)
    add_lines(parser)
    add_model(parser)
    known = sorted((name, code) for code, name in languages.NAMES.items())
    parser.add_argument_group("languages", ", ".join(f"{name} ({code})" for name, code in known))
    # --timings needs no value. With nargs="?" argparse would take a FILE after it for the value.
    args = parser.parse_args(["--timings=text" if word == "--timings" else word for word in argv])
    if not args.words and not args.files_from:
        parser.error("the following arguments are required: FILE")
    args.formats = list(dict.fromkeys(args.formats or ["txt"]))
    return args


def decoding(args: argparse.Namespace) -> Options:
    """The decoding options in the command line. Raises UsageError."""
    if args.sequential and args.batch_size:
        raise UsageError("--sequential decodes one window at a time; leave out --batch_size")
    for name in ("vad_threshold", "vad_min_silence_duration_ms", "chunk_size"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(Options, name))
        elif args.sequential:
            raise UsageError(f"--sequential does not cut at silences; leave out --{name}")
    if args.condition_on_previous_text and not args.sequential:
        raise UsageError("--condition_on_previous_text works only with --sequential; add it")
    args.condition_on_previous_text = args.condition_on_previous_text is not False
    args.temperature = temperature(args.temperature, args.temperature_increment_on_fallback)
    args.lines = lines(args)
    if args.word_timestamps is None:
        args.word_timestamps = args.lines != Lines() or not SUBTITLES.keys().isdisjoint(args.formats)
    return chosen(Options, args)


def temperature(given: tuple[float, ...] | None, increment: float | None) -> tuple[float, ...]:
    """The temperatures to try, in order: `given`, or from its only one up to 1 in steps of `increment`."""
    if increment is None:
        return given or Options.temperature
    first, *more = given or (0.0,)
    if more:
        raise UsageError(
            "--temperature lists several values; leave out --temperature_increment_on_fallback or all but one"
        )
    each = (first + i * increment for i in itertools.count())
    return tuple(round(value, 6) for value in itertools.takewhile(lambda value: value < 1 + 1e-6, each))


def lines(args: argparse.Namespace) -> Lines:
    """The subtitle layout options in the command line. Raises UsageError."""
    asked = chosen(Lines, args)
    named = [f"--{field.name}" for field in fields(Lines) if getattr(asked, field.name)]
    if named and SUBTITLES.keys().isdisjoint(args.formats):
        raise UsageError(f"{named[0]} is for srt and vtt; add -f srt, or leave it out")
    if named and args.word_timestamps is False:
        raise UsageError(f"{named[0]} needs word timestamps; leave out --word_timestamps False")
    return asked


def chosen(kind: type[Chosen], args: argparse.Namespace) -> Chosen:
    """A dataclass with its fields taken from the arguments of the same names."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind)})
