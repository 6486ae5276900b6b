"""Decoding in a separate process, which may hang, crash or run out of memory without harming this one.

A helper process imports the decoder (containers.py) once, when it is first needed, and forks for each
recording. The forked process has resource limits, and the kernel ends it if it exceeds them. The samples come
back in shared memory.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from preheat.audio.constants import SAMPLE_RATE
from preheat.audio.mixing import LONGEST, Samples
from preheat.storage import RUNTIME, InputError, PassingError

MEMORY = 2 << 30  # bytes of address space for decoding one recording, without its samples
PATIENCE = 60  # s of CPU time without a second of sound decoded, after which a decoder counts as hanging
LONGEST_WAIT = 3600  # s of wall-clock time likewise: a disk may be slow, or the process stopped
PROCESSOR = 1800  # s of CPU time for one recording; enough to decode many hours

PR_SET_PDEATHSIG = 1  # of prctl(2)

Report = dict[str, Any]


class FaultError(Exception):
    """A bug in the helper; the message is the traceback from there."""


class Helper:
    """The process that forks for each recording; it ends when this one does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None

    def send(self, files: list[int], which: bytes) -> None:
        """Have the recording files[0] decoded into the memory files[1], and a report written to files[2].

        `which`: track and channel, one byte each; see containers.decode.

        Raises OSError, and FaultError where the helper does not start.
        """
        with self._lock:
            if self._socket is None:
                self._socket = self._start()
            try:
                socket.send_fds(self._socket, [which], files)
            except OSError:  # it was killed; start another one
                self._socket = self._start()
                socket.send_fds(self._socket, [which], files)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads would only delay the start
        with theirs:
            helper = subprocess.Popen(
                [sys.executable, "-c", "from preheat.audio import isolation; isolation.serve()"],
                cwd=RUNTIME,  # from where it imports this package
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
            )
        assert helper.stderr  # noqa: S101  for mypy: it is a pipe
        with helper.stderr as errors:
            if not ours.recv(1):
                raise FaultError(errors.read().decode(errors="replace"))
        return ours


HELPER = Helper()


def decode(file: BinaryIO, track: int = 0, channel: int = 0) -> tuple[Samples, str | None, int]:
    """Decode a recording: its [samples] at 16 kHz, mono; what is missing, or None; its number of channels.

    `track` and `channel`: see containers.decode.

    Raises InputError, OSError, and FaultError.
    """
    memory = os.memfd_create("samples")
    reader, writer = os.pipe()
    try:
        try:
            HELPER.send([file.fileno(), memory, writer], bytes([min(track, 255), channel]))
        finally:
            os.close(writer)
        with os.fdopen(reader, "rb", closefd=False) as pipe:
            report = json.loads(pipe.read() or b"{}")  # ends when no process has the other end open
        if "fault" in report:
            raise FaultError(report["fault"])
        if "error" in report:
            raise InputError(report["error"])
        if "incomplete" not in report:
            raise PassingError(
                report.get("killed", "cannot be decoded: the decoder process was killed; try again")
            )
        size = os.fstat(memory).st_size
        samples = np.frombuffer(mmap.mmap(memory, size), np.float32) if size else np.zeros(0, np.float32)
    finally:
        os.close(reader)
        os.close(memory)
    return samples, report["incomplete"], report["channels"]


def serve() -> None:
    """The helper's main loop; returns when the other end of its socket is closed."""
    from preheat.audio import containers  # noqa: PLC0415  FFmpeg's libraries, in the helper only

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps forked children: nobody waits for them
    os.dup2(1, 2)  # stderr to /dev/null: what libraries print from here on is of no use to the user
    with socket.socket(fileno=0) as requests:
        requests.send(b".")  # tells Helper._start that it is ready
        while (received := socket.recv_fds(requests, 2, 3))[0]:
            which, files = received[:2]
            if os.fork() == 0:
                die_with_parent()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                recording, memory, writer = files
                with os.fdopen(recording, "rb") as file, os.fdopen(memory, "wb") as output:
                    report = limited(lambda: containers.decode(file, output, alive, *which))  # noqa: B023
                os.write(writer, json.dumps(report).encode())
                os._exit(0)
            for descriptor in files:
                os.close(descriptor)


def limited(work: Callable[[], Report]) -> Report:
    """Run `work` in a forked process: its report, the `error` that ended it, or a `fault` of our own.

    What has been `killed` may work the next time.
    """
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        die_with_parent()
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(attempt(work)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if content and status == 0:
        return dict(json.loads(content))
    number = os.WTERMSIG(status)
    if number in (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU):
        return {"error": "is damaged: decoding it makes no progress; export it again from its source"}
    if number == signal.SIGKILL:
        return {"killed": "cannot be decoded: its decoder was killed; check free memory"}
    death = f"signal {number}" if number else f"exit code {os.WEXITSTATUS(status)}"
    return {"error": f"is damaged: it crashes the decoder ({death}); export it again from its source"}


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def attempt(work: Callable[[], Report]) -> Report:
    """Set the limits and run `work`: its report, or its error as one."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR + 10))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * SAMPLE_RATE * (LONGEST + 60),) * 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    alive()
    try:
        return work()
    except InputError as error:
        return {"error": str(error)}
    except MemoryError:
        return {
            "error": f"cannot be decoded in {MEMORY >> 30} GiB of memory; export it again from its source"
        }
    except OSError as error:
        return {"error": f"cannot be read: {error.strerror}; check that it still exists"}
    except Exception:
        return {"fault": traceback.format_exc()}


def alive() -> None:
    """Restart the timers: without a call for PATIENCE seconds of CPU time the kernel ends this process."""
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    signal.alarm(LONGEST_WAIT)
