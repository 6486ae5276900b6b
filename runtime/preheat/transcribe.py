"""The order of work for the command: speech in files to text.

Results go to stdout or to files, everything else to stderr. Only light modules are imported up here: what
costs time comes when nothing cheap can fail any more.
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
    timings: str | None  # what is told of them in the end: "text", "json" or nothing
    summary: Path | None  # a file for what became of each recording


@dataclass(frozen=True)
class Desk:
    """Where what is done is handed in."""

    delivery: Delivery
    recipe: Recipe
    summary: Summary
    interruptions: Interruptions
    log: Log

    def deliver(self, transcript: Transcript, task: Task) -> None:
        """Write a transcript, to its end, whoever interrupts. Raises InputError and BrokenPipeError."""
        if task.places:  # to standard output, nobody waits for the end of it
            self.interruptions.hold()
        self.delivery.deliver(transcript, task, self.recipe, self.log)

    def settle(self, outcome: Outcome) -> None:
        """Note what became of a recording. Raises Interrupted if somebody wants an end."""
        self.summary.add(outcome)
        self.interruptions.release()


def run(job: Job, log: Log, interruptions: Interruptions) -> int:
    """All the work, what is cheap and may fail first; returns the exit code."""
    gc.disable()  # imports make 300,000 objects that stay; to look for garbage among them takes time
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
            work(tasks, job, Desk(delivery, recipe, summary, interruptions, log))
    except Interrupted as interrupted:
        summary.interrupt(task.name for task in tasks)
        return summary.finish(interrupted.code)
    return summary.finish(0)


def work(tasks: list[Task], job: Job, desk: Desk) -> None:
    """Load the model and do all recordings; each is listened to while the one before it is transcribed."""
    log, asked = desk.log, job.asked
    strategies = [strategy for strategy in STRATEGIES if job.load in ("auto", strategy)]
    for skipped in set(STRATEGIES).difference(strategies):
        log.info(f"{skipped} loading is not tried: --load {job.load}")
    name = find(job.home, job.model)
    sources = [task.recording.source for task in tasks]
    begin(sources[:AHEAD])
    loading = Loading(job.home, name, strategies, job.device, log)
    with log.phase("import audio"), enough_memory("what reads recordings cannot be imported"):
        from preheat.audio import recording, vad  # noqa: PLC0415  what fails sooner should not wait for it
    with enough_memory("no recording can be read"):
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
            outcome = transcribe(task, current, decoder, job, desk)
            desk.settle(outcome)
            done(outcome)
    if job.timings:
        report(job.timings, model, ready, desk.summary.seconds, log)


def begin(sources: list[Source]) -> None:
    """Have recordings that are elsewhere fetched."""
    for source in sources:
        source.begin()


def prepare(model: Model, job: Job, log: Log) -> "Decoder":
    """The model, ready to decode as asked."""
    import torch  # noqa: PLC0415  as above

    from preheat.model import batched, decoding  # noqa: PLC0415  as above

    torch.manual_seed(0)  # the same words each time, where a temperature makes them a matter of chance
    if job.threads:
        torch.set_num_threads(job.threads)
    size = job.batch_size or batched.affordable(model.network)
    return decoding.Decoder(model.network, model.vocabulary, job.asked, size, log)


def transcribe(task: Task, reader: "Reader", decoder: "Decoder", job: Job, desk: Desk) -> Outcome:
    """Do one recording, whatever happens, and say what became of it."""
    try:
        prepared = reader.result()
        start = now()
        transcript = write_down(prepared, decoder, sequentially=job.sequential)
        spent = desk.log.note("transcribe", start)
        with desk.log.phase("write"):
            desk.deliver(transcript, task)
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
        problem=transcript.incomplete and f"{transcript.incomplete}; what is there is transcribed",
    )


def fault(where: str) -> None:
    """Tell of an error that is being handled and that is not the user's."""
    warn(f"{where}: a fault of transcribe {version()}, not yours; please report it with these lines")
    traceback.print_exc()


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
