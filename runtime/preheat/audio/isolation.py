"""Decoding in a process of its own, which may hang, crash or want all memory without harm to the others.

A helper process imports the decoder (containers.py) once, when it is first needed, and forks for each
recording: what is forked has limits, and is ended by the kernel where it exceeds them. The samples come back
in memory that both share.
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
from preheat.storage import RUNTIME, InputError

MEMORY = 2 << 30  # bytes of address space that decoding one recording may take, the samples not among them
PATIENCE = 60  # s of processor time without a second of sound, after which a decoder is taken to hang
LONGEST_WAIT = 3600  # s of any time: a disk may be slow, and a process stopped
PROCESSOR = 1800  # s of processor time, in which hours are decoded

PR_SET_PDEATHSIG = 1  # of prctl(2)

Report = dict[str, Any]


class FaultError(Exception):
    """An error of this program's own in the helper: its traceback there."""


class Helper:
    """The process that forks for each recording; it ends when this one does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None

    def send(self, files: list[int], which: bytes) -> None:
        """Have the recording files[0] decoded into the memory files[1], and a report written to files[2].

        `which`: track and channel, as of containers.decode.

        Raises OSError, and FaultError where the helper does not start.
        """
        with self._lock:
            if self._socket is None:
                self._socket = self._start()
            try:
                socket.send_fds(self._socket, [which], files)
            except OSError:  # it was killed; another one may live
                self._socket = self._start()
                socket.send_fds(self._socket, [which], files)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads only cost a start
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
    """[samples] of a recording at 16 kHz, mono, what is missing of it, None if nothing is, and its channels.

    `track` and `channel`: as of containers.decode.

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
            report = json.loads(pipe.read() or b"{}")  # ends with whoever can still write to it
        if "fault" in report:
            raise FaultError(report["fault"])
        if "incomplete" not in report:
            raise InputError(report.get("error", "cannot be decoded: the helper was killed; try again"))
        samples = mapped(memory)
    finally:
        os.close(reader)
        os.close(memory)
    return samples, report["incomplete"], report["channels"]


def mapped(memory: int) -> Samples:
    """The samples that were written to a file in memory, which may be closed: they stay until unused."""
    size = os.fstat(memory).st_size
    return np.frombuffer(mmap.mmap(memory, size), np.float32) if size else np.zeros(0, np.float32)


def serve() -> None:
    """What the helper does, until the other end of its socket is closed."""
    from preheat.audio import containers  # noqa: PLC0415  FFmpeg's libraries, in the helper only

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are forked here
    os.dup2(1, 2)  # what libraries print from here on is nothing that a user could use
    with socket.socket(fileno=0) as requests:
        requests.send(b".")  # to say that it lives
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
    """What `work` reports from a process of its own, or the `error` that ended it, or our own `fault`."""
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
        return {"error": "is damaged: decoding it comes to nothing; export it again from its source"}
    if number == signal.SIGKILL:
        return {"error": "was given up, as its decoder was killed; see whether there is memory enough"}
    death = f"signal {number}" if number else f"exit code {os.WEXITSTATUS(status)}"
    return {"error": f"is damaged: its decoder dies of it ({death}); export it again from its source"}


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def attempt(work: Callable[[], Report]) -> Report:
    """What `work` reports under the limits, with its errors as a report."""
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
        return {"error": f"cannot be read: {error.strerror}; check that it is still there"}
    except Exception:
        return {"fault": traceback.format_exc()}


def alive() -> None:
    """Say that decoding goes on: the kernel ends a process that does not say so for PATIENCE seconds."""
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    signal.alarm(LONGEST_WAIT)
