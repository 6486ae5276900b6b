"""What Python programs import: `from preheat import Transcriber`, as docs/library.md shows.

Each name is imported on first access (PEP 562): the command imports this package, too, and starts without
most of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preheat.options import Options, UsageError
    from preheat.storage import InputError
    from preheat.transcriber import Transcriber
    from preheat.transcript import Segment, Transcript, Word
    from preheat.weights.loading import ModelError

__all__ = [
    "InputError",
    "ModelError",
    "Options",
    "Segment",
    "Transcriber",
    "Transcript",
    "UsageError",
    "Word",
]
MODULES = {
    "InputError": "storage",
    "ModelError": "weights.loading",
    "Options": "options",
    "Segment": "transcript",
    "Transcriber": "transcriber",
    "Transcript": "transcript",
    "UsageError": "options",
    "Word": "transcript",
}


if not TYPE_CHECKING:  # mypy would take it to mean that any attribute exists

    def __getattr__(name: str) -> object:
        """Import a name of `__all__` on first access."""
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
