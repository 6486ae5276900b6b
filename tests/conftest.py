"""How `make test` shares the tests out to processes that run side by side, by pytest-xdist.

What is started once for many tests stays in one process. The groups are begun in the order of the
command line. xdist's own marks for groups do nothing under pytest 9.2, which has another idea of a test's id.
"""

import os
import signal
import tempfile
from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

# A shell's background job ignores it and hands that on: what a test interrupts would run on for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# They boot machines, and look for what is left of theirs; one started beside them copies all their mounts.
MACHINES = {"ami", "image"}
ONE_EACH = {"test_molecule.py"}  # every scenario makes a container of its own


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """A group of tests at a time to whoever has nothing to do."""

    def _split_scope(self, nodeid: str) -> str:
        """A test's group: all that boot machines, its file, or nothing but itself."""
        path = PurePosixPath(nodeid.partition("::")[0])
        if path.parent.name in MACHINES:
            return "machines"
        return nodeid if path.name in ONE_EACH else path.name


def pytest_configure(config: pytest.Config) -> None:
    """Tests start programs that they have written; those of an instance (factory/ec2/proof.py) do not."""
    folder = tempfile.gettempdir()
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0) and not config.getoption("--machine", None):
        pytest.exit(
            f"{folder} is mounted noexec, and tests start programs there; set TMPDIR to another folder",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """Asked by pytest-xdist."""
    return Groups(config, log)
