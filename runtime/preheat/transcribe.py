"""The command's sequence of work, from its arguments to the written results.

Results go to stdout or to files, everything else to stderr. Only light modules are imported at the top:
expensive imports wait until the cheap checks have passed.
"""

import gc
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preheat import memory
from preheat.delivery import Delivery, Recipe, Task
from preheat.options import Options
from preheat.outcome import CODES, DONE, FAILED, FAULTY, INCOMPLETE, SKIPPED, Outcome
from preheat.places import naming, s3
from preheat.places.results import target
from preheat.places.sources import AHEAD, Source
from preheat.progress import display
from preheat.signals import Interrupted, Interruptions
from preheat.storage import InputError, version
from preheat.subtitles import Lines
from preheat.summary import Summary
from preheat.timing import Log, now, reason, warn
from preheat.transcriber import check_asked, write_down
from preheat.transcript import Transcript
from preheat.weights.loading import STRATEGIES, Loading, Model, enough_memory, find

if TYPE_CHECKING:
    from preheat.audio.recording import Reader
    from preheat.model.decoding import Decoder

FAULT = CODES[FAULTY]


@dataclass(frozen=True)
class Job:
    """What is to be transcribed, by which model, and where the results go."""

    words: list[str]  # that name recordings
    files_from: list[str]  # files with further ones
    asked: Options
    home: Path  # has state/ and model/
    model: str | None  # its name; None: the only one there is
    load: str  # "auto", or one of loading.STRATEGIES
    device: str  # "auto", "cpu" or "cuda"
    sequential: bool  # one window after the other
    batch_size: int | None  # windows at a time; None: by the free memory
    threads: int | None  # of the processor, for the model; None: torch's choice
    outputs: list[str]  # folders and prefixes in S3; none: to stdout
    if_exists: str  # of delivery.IF_EXISTS
    formats: list[str]  # of formats.FORMATS
    lines: Lines  # of subtitles
    timings: str | None  # how they are printed at the end: "text", "json"; None: not at all
    summary: Path | None  # a JSON file for the outcome of each recording


@dataclass(frozen=True)
class Collector:
    """Takes finished transcripts and outcomes."""

    delivery: Delivery
    recipe: Recipe
    summary: Summary
    interruptions: Interruptions
    log: Log

    def deliver(self, transcript: Transcript, task: Task) -> None:
        """Write a transcript; to files without interruption. Raises InputError and BrokenPipeError."""
        if task.places:  # standard output may be interrupted
            self.interruptions.hold()
        self.delivery.deliver(transcript, task, self.recipe, self.log)

    def settle(self, outcome: Outcome) -> None:
        """Record the outcome of a recording. Raises Interrupted if a signal has come meanwhile."""
        self.summary.add(outcome)
        self.interruptions.release()


def run(job: Job, log: Log, interruptions: Interruptions) -> int:
    """Do all the work, cheap checks first; returns the exit code."""
    gc.disable()  # imports create 300,000 permanent objects; collecting among them would take time
    if job.lines.max_line_count and not job.lines.max_line_width:
        warn("--max_line_count does nothing without --max_line_width")
    delivery = Delivery([target(text) for text in job.outputs], job.formats, job.lines, job.if_exists)
    summary = Summary(job.summary, log)
    for where in naming.buckets([*job.words, *job.outputs]):
        s3.reach(where)
    recordings, wrong = naming.recordings(job.words, job.files_from, apart=bool(job.outputs))
    delivery.prepare(len(recordings))
    for word, problem in wrong:
        summary.add(Outcome(word, FAILED, problem=problem))
    recipe = Recipe(job.asked, job.lines, job.sequential, job.home, job.model)
    tasks = []
    for recording, found in delivery.tasks(recordings, recipe):
        if isinstance(found, Task):
            tasks.append(found)
        else:
            outcome = FAILED if found else SKIPPED
            summary.add(Outcome(recording.source.name, outcome, problem=str(found) if found else None))
    try:
        if tasks:
            work(tasks, job, Collector(delivery, recipe, summary, interruptions, log))
    except Interrupted as interrupted:
        summary.interrupt(task.name for task in tasks)
        return summary.finish(interrupted.code)
    return summary.finish(0)


def work(tasks: list[Task], job: Job, collector: Collector) -> None:
    """Load the model and transcribe all recordings; each is read while the previous one is transcribed."""
    log, asked = collector.log, job.asked
    strategies = [strategy for strategy in STRATEGIES if job.load in ("auto", strategy)]
    for skipped in set(STRATEGIES).difference(strategies):
        log.info(f"{skipped} loading skipped: --load {job.load}")
    name = find(job.home, job.model)
    sources = [task.recording.source for task in tasks]
    begin(sources[:AHEAD])
    loading = Loading(job.home, name, strategies, job.device, log)
    with log.phase("import audio"), enough_memory("the audio libraries cannot be imported"):
        from preheat.audio import recording, vad  # noqa: PLC0415  slow: after all that may fail sooner
    with enough_memory("recordings cannot be read"):
        detector = vad.Detector.load()
        ahead = recording.Reader(sources[0].open, detector, asked, log)  # while torch is imported
    if (asked.language or asked.task == "translate") and (vocabulary := loading.vocabulary()):
        check_asked(asked, name, vocabulary)  # before torch is imported
    model = loading.model()
    check_asked(asked, name, model.vocabulary)
    gc.enable()
    ready = now()
    with enough_memory("the model cannot be used"):
        decoder = prepare(model, job, log)
    with display(log, len(tasks)) as done:
        for number, task in enumerate(tasks, 1):
            current = ahead
            begin(sources[number : number + AHEAD])
            if number < len(tasks):
                ahead = recording.Reader(sources[number].open, detector, asked, log)
            outcome = transcribe(task, current, decoder, job, collector)
            collector.settle(outcome)
            done(outcome)
    if job.timings:
        report(job.timings, model, ready, collector.summary.seconds, log)


def begin(sources: list[Source]) -> None:
    """Start to fetch recordings that are not local files."""
    for source in sources:
        source.begin()


def prepare(model: Model, job: Job, log: Log) -> "Decoder":
    """A decoder for the model, with the options of the job."""
    import torch  # noqa: PLC0415  as above

    from preheat.model import batched, decoding  # noqa: PLC0415  as above

    torch.manual_seed(0)  # for reproducible results: temperatures above 0 sample tokens
    if job.threads:
        torch.set_num_threads(job.threads)
    size = job.batch_size or batched.affordable(model.network)
    return decoding.Decoder(model.network, model.vocabulary, job.asked, size, log)


def transcribe(task: Task, reader: "Reader", decoder: "Decoder", job: Job, collector: Collector) -> Outcome:
    """Transcribe one recording; any error but BrokenPipeError becomes an outcome."""
    try:
        prepared = reader.result()
        start = now()
        transcript = write_down(prepared, decoder, sequentially=job.sequential)
        spent = collector.log.note("transcribe", start)
        with collector.log.phase("write"):
            collector.deliver(transcript, task)
    except InputError as error:
        return Outcome(task.name, FAILED, problem=str(error))
    except BrokenPipeError:
        raise
    except Exception as error:
        if short := memory.shortage(error):
            return Outcome(task.name, FAILED, problem=f"cannot be transcribed: {short}; {memory.CURE}")
        fault(task.name)
        return Outcome(task.name, FAULTY, problem=reason(error))
    return Outcome(
        task.name,
        INCOMPLETE if transcript.incomplete else DONE,
        seconds=prepared[0].seconds,
        spent=spent,
        words=sum(len(segment.text.split()) for segment in transcript.segments),
        language=transcript.language,
        problem=transcript.incomplete and f"{transcript.incomplete}; the rest is transcribed",
    )


def fault(where: str) -> None:
    """Report the error being handled as a bug in this program."""
    warn(f"{where}: a bug in transcribe {version()}; please report it with the lines below")
    traceback.print_exc()


def report(style: str, model: Model, ready: float, seconds: float, log: Log) -> None:
    """Print --timings; `ready`: when the model was ready (s), `seconds`: total length of the recordings."""
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
