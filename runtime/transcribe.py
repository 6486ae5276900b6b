"""The command line: speech in files to text.

Results go to stdout or to files, everything else to stderr. Exit codes: 0 all good, 1 some input failed
(each is named, the others are done), 2 wrong usage, 3 no usable model, 130 interrupted.

Only light modules are imported up here: what costs time comes when nothing cheap can fail any more.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from formats import WRITERS, Transcript
from loading import STRATEGIES, Model, ModelError, find, load
from storage import InputError, check, replacing
from timing import Log, now, warn

RUNTIME = Path(__file__).resolve().parent
INPUT_FAILED, USAGE, NO_MODEL, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141


class UsageError(Exception):
    """Options that do not go together, or name what there is not: one line with cause and cure."""


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit code."""
    try:
        args = arguments(argv)
        return run(args, Log(args.quiet))
    except UsageError as error:
        warn(str(error))
        return USAGE
    except ModelError as error:
        warn(str(error))
        return NO_MODEL
    except KeyboardInterrupt:
        warn("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough, as in `transcribe … | head -1`
        return PIPE_CLOSED


def arguments(argv: list[str]) -> argparse.Namespace:
    """The options; leaves the process on --help, --version and what argparse itself finds wrong."""
    parser = argparse.ArgumentParser(
        prog="transcribe",
        description="Write down what is said in recordings: wav, flac, mp3, ogg; others if ffmpeg is there.",
        epilog="Exit codes: 0 all good, 1 some input failed, 2 wrong usage, 3 no usable model.",
        allow_abbrev=False,
    )
    version = f"transcribe {(RUNTIME / 'VERSION').read_text().strip()}"
    home = os.environ.get("TRANSCRIBE_HOME") or RUNTIME.parent
    choices = ("auto", *STRATEGIES)
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="a recording")
    add("--version", action="version", version=version)
    add("-o", dest="folder", type=Path, metavar="DIR", help="write to files there (default: to stdout)")
    add("-f", dest="formats", type=formats, default="txt", metavar="FORMAT", help="txt, json or txt,json")
    add("--language", metavar="CODE", help="what is spoken, as in en (default: detected)")
    add(
        "--load",
        choices=choices,
        default="auto",
        help="state file or checkpoint (default: state, if it works)",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if there is a GPU")
    add("--model", metavar="NAME", help="which model (default: the only one there is)")
    add("--home", type=Path, default=home, metavar="DIR", help="has state/ and model/ (default: %(default)s)")
    add("--timings", choices=("text", "json"), help="print each phase; --timings=json: as one line of JSON")
    add("--quiet", action="store_true", help="on stderr, warnings and errors only")
    # --timings may stand alone, but not take a FILE that follows for its value, as argparse would have it.
    return parser.parse_args(["--timings=text" if word == "--timings" else word for word in argv])


def formats(text: str) -> list[str]:
    """The value of -f."""
    names = text.split(",")
    if unknown := [name for name in names if name not in WRITERS]:
        raise argparse.ArgumentTypeError(f"no format {unknown[0]!r}; there are {', '.join(WRITERS)}")
    return names


def run(args: argparse.Namespace, log: Log) -> int:
    """All the work, what is cheap and may fail first; returns the exit code."""
    check_outputs(args)
    inputs = [path for path in args.files if passes(path)]
    if not inputs:
        return INPUT_FAILED
    strategies = [strategy for strategy in STRATEGIES if args.load in ("auto", strategy)]
    for skipped in set(STRATEGIES).difference(strategies):
        log.info(f"{skipped} loading is not tried: --load {args.load}")
    model = load(args.home, find(args.home, args.model), strategies, args.device, log)
    check_language(args.language, model)
    ready = now()
    heard = [seconds for path in inputs if (seconds := transcribe(path, model, args, log)) is not None]
    if args.timings:
        spent = log.seconds("transcribe")
        log.report(
            args.timings,
            {
                "model": model.name,
                "strategy": model.strategy,
                "device": str(model.network.device),
                "dtype": str(model.network.dtype).removeprefix("torch."),
                "load_s": round(log.seconds("load model"), 3),
                "ready_s": round(ready, 3),
                "audio_s": round(sum(heard), 3),
                "decode_s": round(spent, 3),
                "speed": round(sum(heard) / spent, 2) if spent else 0,
                "total_s": round(now(), 3),
            },
        )
    return 0 if len(heard) == len(args.files) else INPUT_FAILED


def check_outputs(args: argparse.Namespace) -> None:
    """Raise UsageError if outputs would get in each other's way; make the folder of -o."""
    if args.folder is None:
        if len(args.formats) > 1:
            raise UsageError("several formats make several files; say where with -o DIR")
        if args.formats == ["json"] and len(args.files) > 1:
            raise UsageError("several recordings make several JSON documents; say where with -o DIR")
        return
    stem, count = Counter(path.stem for path in args.files).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"{count} recordings would be written to {args.folder / stem}.*; give each its own -o"
        )
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"no folder {args.folder}: {error.strerror}; name another with -o") from error


def check_language(code: str | None, model: Model) -> None:
    """Raise UsageError if the model does not know the language."""
    known = model.vocabulary.languages
    if code is not None and code not in known:
        raise UsageError(f"{model.name} knows no language {code}; it knows {', '.join(sorted(known))}")


def passes(path: Path) -> bool:
    """Whether a first glance at an input finds nothing wrong with it; if it does, the user is told."""
    try:
        check(path)
    except InputError as error:
        warn(f"{path}: {error}")
        return False
    return True


def transcribe(path: Path, model: Model, args: argparse.Namespace, log: Log) -> float | None:
    """Do one recording; returns its length in seconds, or None if it failed and the user was told why."""
    import audio  # noqa: PLC0415  --help, a wrong option or a missing model should not wait for it
    import decoding  # noqa: PLC0415  as above

    try:
        with log.phase("decode audio"):
            samples = audio.decode(path)
        start = now()
        mel = audio.log_mel(samples, model.network.window, model.network.filters)
        frames = len(samples) // audio.HOP
        transcript = decoding.transcribe(model.network, model.vocabulary, mel, frames, args.language)
        spent = log.note("transcribe", start)
        with log.phase("write"):
            write(transcript, path, args)
    except InputError as error:
        warn(f"{path}: {error}")
        return None
    seconds = len(samples) / audio.SAMPLE_RATE
    log.info(f"{path}: {seconds:.1f} s of audio in {spent:.2f} s, {seconds / spent:.1f} times real time")
    return seconds


def write(transcript: Transcript, path: Path, args: argparse.Namespace) -> None:
    """Put the transcript where the user wants it. Raises InputError, and BrokenPipeError."""
    try:
        for name in args.formats:
            content = WRITERS[name](transcript).encode()
            if args.folder:
                with replacing(args.folder / f"{path.stem}.{name}") as file:
                    file.write(content)
                continue
            if len(args.files) > 1:  # as head and tail do
                content = b"==> %s <==\n" % os.fsencode(path) + content
            # Past Python's buffer: what it could not write it would try again, and fail with, at the end.
            while content:
                content = content[os.write(sys.stdout.fileno(), content) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        where = args.folder or "standard output"
        raise InputError(f"cannot write to {where}: {error.strerror}; check space and permissions") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
