"""The model and what reads recordings for it, opened once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from preheat.options import Options
from preheat.timing import Log
from preheat.transcriber import check_asked, write_down
from preheat.transcript import Transcript
from preheat.weights.loading import STRATEGIES, Loading, enough_memory, find

if TYPE_CHECKING:
    from preheat.audio.recording import Prepared


class Engine:
    """An open model. Any thread may read recordings, one of them transcribes."""

    def __init__(self, home: Path, device: str, log: Log) -> None:
        """Open the only model of `home`; `device` may be "auto". Raises ModelError."""
        self.name = find(home, None)  # of the model
        loading = Loading(home, self.name, list(STRATEGIES), device, log)
        with enough_memory("no recording can be read"):
            from preheat.audio import vad  # noqa: PLC0415  while the state file is read

            self._detector = vad.Detector.load()
        model = loading.model()
        with enough_memory("the model cannot be used"):
            from preheat.model import batched, decoding  # noqa: PLC0415  need torch

            size = batched.affordable(model.network)
            self._progress = Log(quiet=True)
            self._decoder = decoding.Decoder(model.network, model.vocabulary, size=size, log=self._progress)

    def check(self, options: Options) -> None:
        """Raise UsageError for options that the model cannot follow."""
        check_asked(options, self.name, self._decoder.vocabulary)

    def read(self, file: BinaryIO, options: Options) -> "list[Prepared]":
        """Decode a recording, and find the speech in it; `file` is unbuffered. Raises InputError, OSError."""
        from preheat.audio import recording  # noqa: PLC0415  there by now

        found, log = recording.channels(file, options), Log(quiet=True)
        return [recording.prepare(found[name], self._detector, options, log, name) for name in found]

    def transcribe(
        self, prepared: "list[Prepared]", options: Options, progress: Callable[[], None]
    ) -> Transcript:
        """What is said; the same recording gives the same words each time. Raises PassingError.

        `progress` is called after each batch of windows.
        """
        import torch  # noqa: PLC0415  there by now

        torch.manual_seed(0)  # temperatures above 0 sample tokens
        self._decoder.options, self._progress.display = options, lambda _: progress()
        return write_down(prepared, self._decoder, sequentially=False)
