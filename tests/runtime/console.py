"""What a run of transcribe.py printed, for the tests that read it."""

import subprocess
from collections.abc import Callable

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
NAME = "whisper-nato"  # the model in the home that tests run it with


def errors(done: Done) -> list[str]:
    """The lines on stderr that are not progress; each must name its program."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert all(line.startswith("transcribe: ") for line in lines), done.stderr
    return lines
