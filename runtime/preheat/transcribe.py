"""The order of work for the command: speech in files to text.

Results go to stdout or to files, everything else to stderr. Only light modules are imported up here: what
costs time comes when nothing cheap can fail any more.
"""

import gc
import os
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preheat import memory, stdio
from preheat.formats import written
from preheat.options import Options, UsageError
from preheat.storage import InputError, check, check_folder, check_result, replacing, version
from preheat.subtitles import Lines
from preheat.timing import Log, now, warn
from preheat.transcriber import check_asked, write_down
from preheat.transcript import Transcript
from preheat.weights.loading import STRATEGIES, Loading, Model, enough_memory, find

if TYPE_CHECKING:
    from preheat.audio.recording import Reader
    from preheat.model.decoding import Decoder

INPUT_FAILED, FAULT = 1, 4  # exit codes


@dataclass(frozen=True)
class Job:
    """What is to be transcribed, by which model, and where the results go."""

    files: list[Path]
    home: Path  # has state/ and model/
    model: str | None  # its name; None: the only one there is
    load: str  # "auto", or one of loading.STRATEGIES
    device: str  # "auto", "cpu" or "cuda"
    sequential: bool  # one window after the other
    batch_size: int | None  # windows at a time; None: by the free memory
    threads: int | None  # of the processor, for the model; None: torch's choice
    folder: Path | None  # None: to stdout
    formats: list[str]  # of formats.FORMATS
    lines: Lines  # of subtitles
    timings: str | None  # what is told of them in the end: "text", "json" or nothing

    def results(self, path: Path) -> list[Path]:
        """The files that a recording's results go to, if they go to files."""
        return [self.folder / f"{path.stem}.{name}" for name in self.formats] if self.folder else []


def run(job: Job, asked: Options, log: Log) -> int:
    """All the work, what is cheap and may fail first; returns the exit code."""
    gc.disable()  # imports make 300,000 objects that stay; to look for garbage among them takes time
    check_outputs(job)
    inputs = [path for path in job.files if passes(path, job.results(path))]
    if not inputs:
        return INPUT_FAILED
    strategies = [strategy for strategy in STRATEGIES if job.load in ("auto", strategy)]
    for skipped in set(STRATEGIES).difference(strategies):
        log.info(f"{skipped} loading is not tried: --load {job.load}")
    name = find(job.home, job.model)
    loading = Loading(job.home, name, strategies, job.device, log)
    with log.phase("import audio"), enough_memory("what reads recordings cannot be imported"):
        from preheat.audio import recording, vad  # noqa: PLC0415  what fails sooner should not wait for it
    with enough_memory("no recording can be read"):
        detector = vad.Detector.load()
        ahead = recording.Reader(inputs[0], detector, asked, log)  # while torch is imported
    if (asked.language or asked.task == "translate") and (vocabulary := loading.vocabulary()):
        check_asked(asked, name, vocabulary)  # before torch is imported
    model = loading.model()
    check_asked(asked, name, model.vocabulary)
    gc.enable()
    ready = now()
    with enough_memory("the model cannot be used"):
        decoder = prepare(model, asked, job, log)
    codes, seconds = [INPUT_FAILED] * (len(job.files) - len(inputs)), 0.0
    for following in [*inputs[1:], None]:
        current = ahead
        if following is not None:
            ahead = recording.Reader(following, detector, asked, log)  # while this one is transcribed
        code, length = transcribe(current, decoder, job, log)
        codes.append(code)
        seconds += length
    if job.timings:
        report(job.timings, model, ready, seconds, log)
    return max(codes)


def prepare(model: Model, asked: Options, job: Job, log: Log) -> "Decoder":
    """The model, ready to decode as asked."""
    import torch  # noqa: PLC0415  as above

    from preheat.model import batched, decoding  # noqa: PLC0415  as above

    torch.manual_seed(0)  # the same words each time, where a temperature makes them a matter of chance
    if job.threads:
        torch.set_num_threads(job.threads)
    size = job.batch_size or batched.affordable(model.network)
    return decoding.Decoder(model.network, model.vocabulary, asked, size, log)


def check_outputs(job: Job) -> None:
    """Raise UsageError if outputs would get in each other's way; make the folder of -o."""
    if job.lines.max_line_count and not job.lines.max_line_width:
        warn("--max_line_count does nothing without --max_line_width")
    if job.folder is None:
        if 1 in stdio.closed:
            raise UsageError("standard output is closed; say where to write with -o DIR")
        if len(job.formats) > 1:
            raise UsageError("several formats make several files; say where with -o DIR, here with -o .")
        if job.formats != ["txt"] and len(job.files) > 1:
            raise UsageError(f"several recordings make several {job.formats[0]} files; say where with -o DIR")
        return
    stem, count = Counter(path.stem for path in job.files).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"{count} recordings would be written to {job.folder / stem}.*; give each its own -o"
        )
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"no folder {job.folder}: {error.strerror}; name another with -o") from error
    try:
        check_folder(job.folder)
    except OSError as error:
        raise UsageError(f"cannot write to {job.folder}: {error.strerror}; name another with -o") from error


def passes(path: Path, results: list[Path]) -> bool:
    """Whether a first glance at an input and its results finds nothing wrong; else the user is told."""
    try:
        check(path)
        for result in results:
            check_result(result, path)
    except InputError as error:
        warn(f"{path}: {error}")
        return False
    return True


def transcribe(reader: "Reader", decoder: "Decoder", job: Job, log: Log) -> tuple[int, float]:
    """Do one recording, whatever happens: the exit code for it, and how many seconds of it were done.

    Where it failed the user is told why.
    """
    path = reader.path
    try:
        prepared = reader.result()
        start = now()
        transcript = write_down(prepared, decoder, sequentially=job.sequential)
        spent = log.note("transcribe", start)
        with log.phase("write"):
            write(transcript, path, job)
    except InputError as error:
        warn(f"{path}: {error}")
        return INPUT_FAILED, 0
    except BrokenPipeError:
        raise
    except Exception as error:
        if short := memory.shortage(error):
            warn(f"{path}: cannot be transcribed: {short}; {memory.CURE}")
            return INPUT_FAILED, 0
        fault(str(path))
        return FAULT, 0
    seconds = prepared.seconds
    log.info(f"{path}: {seconds:.1f} s of audio in {spent:.2f} s, {seconds / spent:.1f} times real time")
    if prepared.incomplete:
        warn(f"{path}: {prepared.incomplete}; what is there is transcribed")
        return INPUT_FAILED, seconds
    return 0, seconds


def fault(where: str) -> None:
    """Tell of an error that is being handled and that is not the user's."""
    warn(f"{where}: a fault of transcribe {version()}, not yours; please report it with these lines")
    traceback.print_exc()


def write(transcript: Transcript, path: Path, job: Job) -> None:
    """Put the transcript where the user wants it. Raises InputError, and BrokenPipeError."""
    try:
        for name, text in written(transcript, job.formats, job.lines).items():
            content = text.encode()
            if job.folder:
                with replacing(job.folder / f"{path.stem}.{name}") as file:
                    file.write(content)
                continue
            if len(job.files) > 1:  # as head and tail do
                content = b"==> %s <==\n" % os.fsencode(path) + content
            # Past Python's buffer: what it could not write it would try again, and fail with, at the end.
            while content:
                content = content[os.write(sys.stdout.fileno(), content) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        where = job.folder or "standard output"
        raise InputError(f"cannot write to {where}: {error.strerror}; check space and permissions") from error


def report(style: str, model: Model, ready: float, seconds: float, log: Log) -> None:
    """What --timings shows; `ready`: when the model was, `seconds`: how long the recordings are."""
    spent = log.seconds("transcribe")
    log.report(
        style,
        {
            "model": model.name,
            "strategy": model.strategy,
            "device": str(model.network.device),
            "dtype": str(model.network.dtype).removeprefix("torch."),
            "load_s": round(log.seconds("load model"), 3),
            "ready_s": round(ready, 3),
            "audio_s": round(seconds, 3),
            "decode_s": round(spent, 3),
            "speed": round(seconds / spent, 2) if spent else 0,
            "total_s": round(now(), 3),
        },
    )
