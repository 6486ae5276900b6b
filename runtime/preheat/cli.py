"""The command lines of transcribe.py and state.py: nothing else knows of arguments.

Exit codes of transcribe: 0 all good, 1 some input failed or is incomplete (each is named, the others are
done), 2 wrong usage, 3 no usable model, 4 a fault of this program, 130 interrupted, 141 nobody reads on.

Only light modules are imported up here: what costs time comes when nothing cheap can fail any more.
"""

import argparse
import itertools
import json
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from preheat import memory, peers
from preheat.formats import FORMATS, SUBTITLES
from preheat.groups import add_cutting, add_decoding, add_lines, add_model
from preheat.model import languages
from preheat.options import Options, UsageError
from preheat.storage import version
from preheat.subtitles import Lines
from preheat.timing import Log, warn
from preheat.transcribe import FAULT, Job, fault, run
from preheat.values import formats, negated
from preheat.weights.loading import ModelError
from preheat.weights.statefile import DTYPES, StateError

FAILED, USAGE, NO_MODEL, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141  # exit codes

Chosen = TypeVar("Chosen", Job, Options, Lines)


def transcribe(argv: list[str]) -> int:
    """The command `transcribe`; returns the exit code."""
    try:
        args = arguments(argv)
        asked = decoding(args)
        return run(chosen(Job, args), asked, Log(args.quiet))
    except (UsageError, ModelError) as error:
        warn(str(error))
        return USAGE if isinstance(error, UsageError) else NO_MODEL
    except MemoryError as error:  # wherever it was not looked for
        warn(f"{memory.shortage(error)}; {memory.CURE}")
        return NO_MODEL
    except KeyboardInterrupt:
        warn("interrupted")
        return INTERRUPTED
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
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="a recording")
    add("-V", "--version", action="version", version=f"transcribe {version()}")
    add(
        "-o",
        "--output_dir",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="write to files there (default: to stdout)",
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
    add("--timings", choices=("text", "json"), help="print each phase; --timings=json: as one line of JSON")
    add("--quiet", action="store_true", help="on stderr, warnings and errors only")
    add("--verbose", "--print_progress", dest="quiet", type=negated, metavar="False", help="as --quiet")
    for names in peers.OTHERS:
        add(*names.split(), action=Refused, nargs="?", help=argparse.SUPPRESS)
    add_decoding(parser)
    add_cutting(parser)
    add_lines(parser)
    add_model(parser)
    known = sorted((name, code) for code, name in languages.NAMES.items())
    parser.add_argument_group("languages", ", ".join(f"{name} ({code})" for name, code in known))
    # --timings may stand alone, but not take a FILE that follows for its value, as argparse would have it.
    args = parser.parse_args(["--timings=text" if word == "--timings" else word for word in argv])
    args.formats = list(dict.fromkeys(args.formats or ["txt"]))
    return args


def decoding(args: argparse.Namespace) -> Options:
    """The part of the command line that decoding wants to know. Raises UsageError."""
    if args.sequential and args.batch_size:
        raise UsageError("--sequential decodes one window at a time; leave out --batch_size")
    for name in ("vad_threshold", "vad_min_silence_duration_ms", "chunk_size"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(Options, name))
        elif args.sequential:
            raise UsageError(f"--sequential does not cut at silences; leave out --{name}")
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


def state(argv: list[str]) -> int:
    """The command `state.py`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="state.py", description="Make or check a state file.")
    commands = parser.add_subparsers(dest="command", required=True)
    baking = commands.add_parser("bake", help="pack a checkpoint into a state file")
    baking.add_argument("--model", type=Path, required=True, metavar="DIR", help="the checkpoint's folder")
    baking.add_argument("--output", type=Path, required=True, metavar="FILE", help="the state file to write")
    baking.add_argument(
        "--dtype",
        choices=["auto", *DTYPES],
        default="auto",
        help="of the weights; auto (default) is the fastest here: float16 with a GPU, bfloat16 on a "
        "processor that computes it natively, else float32",
    )
    verifying = commands.add_parser("verify", help="check every byte of a state file")
    verifying.add_argument("file", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    from preheat.weights.checkpoint import CheckpointError  # noqa: PLC0415  imports torch
    from preheat.weights.state import bake, log, verify  # noqa: PLC0415  as above

    try:
        report = verify(args.file) if args.command == "verify" else bake(args.model, args.output, args.dtype)
    except (StateError, CheckpointError) as error:
        log(str(error))
        return FAILED
    except Exception as error:
        if short := memory.shortage(error):
            log(f"{short}; {memory.CURE}")
        elif isinstance(error, OSError):  # of bake alone
            log(f"cannot write {args.output}: {error.strerror}; check the folder, its permissions and space")
        else:
            raise
        return FAILED
    except KeyboardInterrupt:
        log("interrupted")
        return INTERRUPTED
    print(json.dumps(report))
    return 0
