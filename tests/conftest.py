"""How `make test` distributes the tests to parallel processes with pytest-xdist.

Tests that share a fixture that is started once stay in one process. Groups start in the order of the command
line. xdist's own xdist_group marks have no effect under pytest 9.2, which builds test ids differently.
"""

import os
import signal
import tempfile
from pathlib import Path, PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

# moto reads it when it is imported, instead of its own list of hundreds of AMIs.
os.environ["MOTO_AMIS_PATH"] = str(Path(__file__).parent / "ami/source-amis.json")

# Threads of OpenMP that wait for work would spin: with more processes than cores, several times slower.
os.environ["OMP_WAIT_POLICY"] = "passive"

# A shell's background job ignores SIGINT, and children inherit that: interrupted processes would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These boot machines and check for leftovers; a machine started in parallel would copy all their mounts.
MACHINES = {"ami", "image"}
ONE_EACH = {"test_molecule.py"}  # every scenario makes a container of its own


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """Gives one group of tests at a time to the next idle process."""

    def _split_scope(self, nodeid: str) -> str:
        """A test's group: all tests that boot machines, its file, or only itself."""
        path = PurePosixPath(nodeid.partition("::")[0])
        if path.parent.name in MACHINES:
            return "machines"
        return nodeid if path.name in ONE_EACH else path.name


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a noexec temporary folder: all tests but those with --machine start programs that they write."""
    folder = tempfile.gettempdir()
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0) and not config.getoption("--machine", None):
        pytest.exit(
            f"{folder} is mounted noexec, and tests start programs there; set TMPDIR to another folder",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """The hook in which pytest-xdist gets its scheduler."""
    return Groups(config, log)
