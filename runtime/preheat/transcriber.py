"""The library's Transcriber, a model that is opened once, and what the command shares with it.

Only light modules are imported at the top, as the command imports this, too.
"""

import os
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from preheat import memory
from preheat.model import languages, times
from preheat.options import Options, UsageError
from preheat.places.sources import File
from preheat.storage import InputError, PassingError, check
from preheat.timing import Log
from preheat.transcript import Transcript, merged
from preheat.weights.loading import DEVICES, STRATEGIES, Loading, default_home, enough_memory, find

if TYPE_CHECKING:
    from numpy import floating
    from numpy.typing import NDArray

    from preheat.audio.recording import Prepared
    from preheat.model.decoding import Decoder
    from preheat.model.vocabulary import Vocabulary

    Audio = str | os.PathLike[str] | NDArray[floating[Any]]


class Transcriber:
    """An open model, for any number of recordings. Threads may share it: it transcribes for one at a time."""

    def __init__(
        self,
        model: str | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        device: str = "auto",
        load: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        """Open a model by its name; None for the only one there is.

        `home` has state/ and model/, None for the image's; `device` is "auto", "cpu" or "cuda"; `load` is
        "auto", "state" or "standard"; `batch_size` is how many windows are decoded at a time, None for as
        many as the free memory allows. Raises ModelError if no model can be used, and UsageError.
        """
        for name, value, values in (("device", device, DEVICES), ("load", load, STRATEGIES)):
            if value not in ("auto", *values):
                raise UsageError(f"unknown {name} {value!r}; choose from auto, {', '.join(values)}")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be a whole number of 1 or more, or None")
        log, home = Log(quiet=True), default_home() if home is None else Path(home)
        strategies = [strategy for strategy in STRATEGIES if load in ("auto", strategy)]
        loading = Loading(home, find(home, model), strategies, device, log)
        with enough_memory("torch cannot be imported"):
            # All of torch, as other code in this process may need what `Loading` would leave out.
            import torch  # noqa: F401, PLC0415  while the state file is read
        with enough_memory("recordings cannot be read"):
            from preheat.audio import vad  # noqa: PLC0415  as above

            self._detector = vad.Detector.load()
        opened = loading.model()
        self.name = opened.name  # of the model
        with enough_memory("the model cannot be used"):
            from preheat.model import batched, decoding  # noqa: PLC0415  need torch

            size = batch_size or batched.affordable(opened.network)
            self._decoder = decoding.Decoder(opened.network, opened.vocabulary, size=size)
        self._lock = Lock()

    def transcribe(
        self,
        audio: "Audio",
        options: Options | None = None,
        *,
        sequential: bool = False,
    ) -> Transcript:
        """What is said in a recording: the path of a file, or [samples] at 16 kHz, mono, from -1 to 1.

        With `sequential` one window is decoded after the other, as openai/whisper does. What is cut short
        or damaged is transcribed as far as it goes: `Transcript.incomplete` says what is missing. The same
        recording gives the same words each time.

        Raises InputError, which names the file, and UsageError for options that the model cannot follow.
        """
        import torch  # noqa: PLC0415  there by now

        asked = options or Options()
        asked = replace(asked, language=asked.language and (languages.code(asked.language) or asked.language))
        check_asked(asked, self.name, self._decoder.vocabulary)
        decoder, device = self._decoder, self._decoder.network.device
        try:
            prepared = self._prepare(audio, asked)
            with self._lock, torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(0)  # temperatures above 0 sample tokens
                decoder.options, decoder.growing = asked, False
                return write_down(prepared, decoder, sequentially=sequential)
        except InputError as error:
            name = os.fspath(audio) if isinstance(audio, str | os.PathLike) else "the recording"
            raise InputError(f"{name}: {error}") from error

    def _prepare(self, audio: "Audio", asked: Options) -> "list[Prepared]":
        """The recording, or its channels, and where in it there is speech. Raises InputError."""
        from preheat.audio import audiofile, recording  # noqa: PLC0415  there by now

        log = Log(quiet=True)
        if isinstance(audio, str | os.PathLike):
            check(path := Path(audio))
            return recording.Reader(File(path).open, self._detector, asked, log).result()
        return [recording.prepare(audiofile.sampled(audio), self._detector, asked, log)]


def check_asked(asked: Options, name: str, vocabulary: "Vocabulary") -> None:
    """Raise UsageError if the model does not support the language or task."""
    known = vocabulary.languages
    if asked.language is not None and asked.language not in known:
        raise UsageError(
            f"{name} does not support the language {asked.language}; it supports {', '.join(sorted(known))}"
        )
    translates = vocabulary.multilingual and "translate" in vocabulary.tasks
    if asked.task == "translate" and not translates:
        raise UsageError(f"{name} cannot translate; leave out --task translate")


def write_down(prepared: "list[Prepared]", decoder: "Decoder", *, sequentially: bool) -> Transcript:
    """Transcribe a recording, or its channels. Raises InputError."""
    return merged({each.channel: transcribed(each, decoder, sequentially=sequentially) for each in prepared})


def transcribed(prepared: "Prepared", decoder: "Decoder", *, sequentially: bool) -> Transcript:
    """Transcribe one channel. Raises PassingError if there is not enough memory for even one window."""
    import torch  # noqa: PLC0415  there by now

    from preheat.model import batched, sequential  # noqa: PLC0415  there by now, or small

    samples = torch.from_numpy(prepared.samples)
    try:
        way = sequential.transcribe if sequentially else batched.transcribe
        transcript = way(decoder, samples, prepared.speech)
        segments = times.settled(transcript.segments, prepared.seconds)
        return replace(transcript, segments=segments, incomplete=prepared.incomplete)
    except Exception as error:
        problem = memory.shortage(error)
        if problem is None:
            raise
    decoder.forget()  # only here, after the error is gone: its traceback keeps tensors alive
    cure = "check nvidia-smi, or use --device cpu" if "CUDA" in problem else memory.CURE
    raise PassingError(f"cannot be transcribed: {problem}; {cure}")
