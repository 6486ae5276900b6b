"""`make image`, killed at any moment: the next run leaves nothing of it.

The real `make image` is killed, with a play that only waits, on a disk that is built or just copied. It has
its own build folder, home and temporary folder.
"""

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from factory import clean
from factory import workspace as workspaces
from factory.console import BUILD, ROOT, FactoryError, run
from factory.local import basedisk, image
from factory.workspace import temporary, unmount_below

# When to kill: the line to wait for, and how many seconds after it.
MOMENTS = [
    ("base system:", 4.0),
    ("base disk:", 0.3),
    ("base disk:", 1.5),
    ("base disk:", 3.0),
    ("boot the base disk", 0.2),
    ("boot the base disk", 1.5),
    ("packer", 0.7),
    ("packer", 2.5),
    ("Wait", 0.5),
    ("finish:", 0.3),
]
MORE = [(said, seconds * factor) for said, seconds in MOMENTS for factor in (0.1, 0.5, 1.3)]
SECONDS = 120  # until it has said so

PLAY = """
- name: Be there to be killed
  hosts: all
  gather_facts: false
  tasks:
    - name: Wait
      ansible.builtin.command: sleep 1
      changed_when: false
"""
# Replaces the steps before the moment of the kill, where possible.
RUN = """
from contextlib import nullcontext
from pathlib import Path
from factory import console
console.BUILD, console.CHECKOUT = Path({build!r}), {checkout!r}
console.LOGS = console.BUILD / "logs"
from factory.local import basedisk, image
from factory import cli, packer
packer.PROJECT = Path({project!r})
said = {said!r}
if said == "base system:":
    basedisk.PACKAGES = ["netbase"]
else:
    basedisk.CACHE = Path({cache!r})
if said not in ("base system:", "base disk:"):
    image.make_base_disk = lambda disk, _: console.run("cp", "--sparse=always", {disk!r}, disk)
if said == "finish:":
    image.booted, image.build_on = lambda *_, **__: nullcontext(), lambda *_: None
cli.main()
"""


@dataclass(frozen=True)
class Run:
    """A run, recognised by the folder of its files."""

    folder: Path

    @property
    def build(self) -> Path:
        """Its build folder."""
        return self.folder / "build"

    @property
    def checkout(self) -> str:
        """The name of its folder in memory."""
        return f"test-{os.getpid()}"

    def start(self, said: str, disk: Path) -> subprocess.Popen[str]:
        """Start `make image`, which is to be killed after it has printed `said`."""
        project = self.folder / "project/ansible"
        for folder in (project, self.folder / "home", self.folder / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        (project / "image.yml").write_text(PLAY)
        shutil.copy(ROOT / "ansible/ansible.cfg", project)
        program = RUN.format(
            build=str(self.build),
            checkout=self.checkout,
            project=str(project.parent),
            said=said,
            cache=str(basedisk.CACHE),
            disk=str(disk),
        )
        places = {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        return subprocess.Popen(
            [sys.executable, "-c", program, "image"],
            cwd=ROOT, env=os.environ | places, text=True, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def left(self) -> list[str]:
        """The mounts, loop devices, processes and temporary files that exist."""
        mark = f"{self.folder}/"
        found = [row for row in Path("/proc/self/mounts").read_text().splitlines() if mark in row]
        found += [row for row in run("losetup", "--all").splitlines() if mark in row]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                said = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in said:
                found.append(said.replace(b"\0", b" ").decode(errors="replace"))
        places = (self.folder / "home", self.folder / "tmp", temporary(self.build).parent)
        files = [path for place in places for path in place.rglob("*") if not path.is_dir()]
        files += [path for path in self.build.glob("run/*/scratch/**/*") if not path.is_dir()]
        return found + [str(path) for path in files]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run to start and kill; this process is the next run."""
    first = Run(BUILD / "test-killed")
    no = dict.fromkeys(vars(image.ARTIFACT), first.build / "no")
    monkeypatch.setattr(image, "ARTIFACT", image.Artifact(**no))
    monkeypatch.setattr(clean, "MOLECULE_IMAGE", "localhost/preheat-no-such-image")
    monkeypatch.setattr("factory.workspace.CHECKOUT", first.checkout)
    for module in (clean, image, workspaces):
        monkeypatch.setattr(module, "BUILD", first.build)
    yield first
    clean.clean()
    unmount_below(first.folder)
    shutil.rmtree(first.folder)
    shutil.rmtree(temporary(first.build).parent)


def wait_for(said: str, process: subprocess.Popen[str]) -> None:
    """Return once the run has said this."""
    assert process.stderr is not None
    heard, end = "", time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while f"] {said}" not in heard and f"]   {said}" not in heard:
            assert selector.select(end - time.monotonic()), heard
            more = os.read(process.stderr.fileno(), 1 << 16).decode()
            assert more, heard
            heard += more


@pytest.mark.parametrize(
    ("said", "seconds"), [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE)]
)
def test_the_next_run_leaves_nothing_of_a_killed_one(
    said: str, seconds: float, killed: Run, base_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed.start(said, base_disk) as process:
        wait_for(said, process)
        time.sleep(seconds)
        assert process.poll() is None, "it is to be killed while it is at work"
        os.killpg(process.pid, signal.SIGKILL)
    assert killed.left(), "the check sees what is left"

    def begin(*_words: Path) -> None:
        raise FactoryError("it has begun", "")

    monkeypatch.setattr(image, "make_base_disk", begin)
    with pytest.raises(FactoryError, match="it has begun"):
        image.image()
    assert killed.left() == []
