"""state.py bake: it writes all or nothing, whatever happens, and says why it cannot read a checkpoint."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from preheat import storage
from preheat.model.precision import best_dtype
from preheat.weights import checkpoint, state
from tests.runtime import handmade
from tests.runtime.homes import RUNTIME

NAME = "whisper-nato"

BAKE = """
{before}
from preheat import statecli, stdio
stdio.run('state', statecli.state)
"""


def bake(
    output: Path, model: Path, *options: str, before: str = "", **settings: Any
) -> subprocess.CompletedProcess[str]:
    """`state.py bake` in a process of its own; `before` is Python to run in it first."""
    code = BAKE.format(before=before)
    command = [sys.executable, "-c", code, "bake", "--model", str(model), "--output", str(output), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **settings)


def test_baking_twice_gives_the_same_file(baked: Path, tmp_path: Path) -> None:
    first = baked / f"state/{NAME}.safetensors"
    done = bake(tmp_path / "again", baked / "model" / NAME, "--dtype", "float32")
    report = json.loads(done.stdout)
    assert report["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert (report["bytes"], report["dtype"]) == (first.stat().st_size, "float32")
    assert report["model"]["name"] == NAME
    assert done.stderr.startswith("state: reading ")


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [
        # Killed when all is written but not yet renamed.
        ("import os; os.fsync = lambda _: os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        # The disk is full after 1 MB: the same path through the kernel, another errno.
        ("import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (1 << 20, 1 << 20))", 1, "cannot write"),
    ],
    ids=["killed", "disk full"],
)
def test_a_bake_that_fails_leaves_the_old_file(
    trouble: str, status: int, words: str, baked: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.safetensors"
    output.write_text("old")
    done = bake(output, baked / "model" / NAME, before=trouble)
    assert done.returncode == status
    assert output.read_text() == "old"
    if status != -signal.SIGKILL:  # SIGKILL leaves no chance to clean up
        assert list(tmp_path.iterdir()) == [output]
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_the_old_file(baked: Path, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        output = tmp_path / "model.safetensors"
        output.write_text("old")
        done = bake(output, baked / "model" / NAME)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"state: cannot write {output}: No space left on device; check the folder")
        assert (list(tmp_path.iterdir()), output.read_text()) == ([output], "old")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_bake_to_nowhere_fails_before_the_work(baked: Path, tmp_path: Path) -> None:
    done = bake(tmp_path / "none/a.safetensors", baked / "model" / NAME)
    wanted = f"state: cannot write {tmp_path}/none/a.safetensors: No such file or directory; check the "
    assert (done.returncode, done.stderr) == (1, f"{wanted}folder, its permissions and space\n")


def in_a_fork(work: Callable[[], object]) -> int:
    """The wait status of a forked child that does the work; much cheaper than importing torch again."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


class Killer:
    """Kills its process at the n-th of the points that it adds to functions."""

    def __init__(self, point: int) -> None:
        self.left = point

    def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a point before and a point after it."""

        def call(*arguments: Any) -> Any:
            self.pass_by()
            result = function(*arguments)
            self.pass_by()
            return result

        return call

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Any]:
        """storage.replacing with points around and within each write."""
        with storage.replacing(path) as file:

            def write(content: bytes) -> None:
                half = len(content) // 2
                for part in (content[:half], content[half:]):
                    self.around(file.write)(part)
                    file.flush()

            yield SimpleNamespace(write=write)


def test_a_bake_killed_anywhere_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    """And the next bake removes its temporary file."""
    new = tmp_path / "new"
    packed = handmade.small(new)
    folder = tmp_path / "state"
    folder.mkdir()
    output = folder / "model.safetensors"
    contents = {b"old": 0, new.read_bytes(): 0}
    leftovers = 0

    def write() -> None:
        killer = Killer(point)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state, "replacing", killer.replacing)
            patch.setattr(os, "fsync", killer.around(os.fsync))
            patch.setattr(Path, "replace", killer.around(Path.replace))
            state.write(output, packed)

    for point in count(1):
        output.write_bytes(b"old")
        status = in_a_fork(write)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, point
        contents[output.read_bytes()] += 1  # a KeyError for anything else
        leftovers += len(list(folder.iterdir())) - 1
        state.write(output, packed)
        assert list(folder.iterdir()) == [output]
        assert output.read_bytes() == new.read_bytes()
    # After the rename: at its end, and before and after the folder is synced.
    assert list(contents.values()) == [point - 4, 3]
    assert leftovers == point - 4
    assert point > 4 * len(packed[0])


def test_a_living_writer_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until just before it finishes."""
    output = tmp_path / "a"
    other = tmp_path / f"{storage.prefix(tmp_path / 'a.b')}123.tmp"
    other.touch()
    replace = Path.replace

    def late(self: Path, target: Path) -> Path:
        storage.remove_leftovers(output)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    with storage.replacing(output) as file:
        file.write(b"new")
        storage.remove_leftovers(output)
    assert output.read_bytes() == b"new"
    (tmp_path / f"{storage.prefix(output)}123.tmp").touch()
    storage.remove_leftovers(output)
    assert sorted(tmp_path.iterdir()) == [other, output]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_bake_needs_no_home_and_no_rights(baked: Path) -> None:
    """As nobody, without a home and without proxies, it writes its output and nothing else."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        model, output = folder / "model", folder / "state"
        shutil.copytree(baked / "model" / NAME, model)
        temporary = folder / "tmp"
        for writable in (output, temporary):
            writable.mkdir()
            shutil.chown(writable, "nobody")
        # So may be the folders above this checkout: mount what is run where any user may enter.
        mounts = []
        for source in (Path(sys.prefix), RUNTIME):
            (folder / source.name).mkdir()
            mounts.append(f"mount --bind {shlex.quote(str(source))} {folder / source.name}")
        within = ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]
        nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        program = [str(folder / Path(sys.prefix).name / "bin/python")]
        program += [str(folder / RUNTIME.name / "state.py")]
        options = ["bake", "--model", str(model), "--output", str(output / "a.safetensors")]
        done = subprocess.run(
            [*within, *nobody, *program, *options],
            env={"HOME": "/nonexistent", "PATH": os.environ["PATH"], "TMPDIR": str(temporary)}, cwd="/",
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["dtype"] == best_dtype("cuda" if torch.cuda.is_available() else "cpu")
        assert list(output.iterdir()) == [output / "a.safetensors"]
        assert not list(temporary.iterdir())
        state.verify(output / "a.safetensors")


def replace(name: str, old: str, new: str) -> Callable[[Path], object]:
    """Damage: another word in one of the files."""

    def change(model: Path) -> None:
        path = model / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), "config.json"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "in its tokenizer"),
    "not of bytes": (replace("tokenizer.json", "Ġ", "▁"), "its tokens contain '▁'"),
    "config not JSON": (lambda m: (m / "config.json").write_text("{"), "JSON"),
    "weights cut": (lambda m: os.truncate(m / "model.safetensors", 100_000), "incomplete"),
    "another family": (replace("config.json", '"whisper"', '"bart"'), "bart"),
    "another activation": (replace("config.json", '"gelu"', '"relu"'), "activation_function is relu"),
    "a layer missing": (
        replace("config.json", '"decoder_layers": 2', '"decoder_layers": 3'),
        "tensors are missing",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_one_line(kind: str, checkpoint_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(checkpoint_folder, tmp_path / "model"))
    change, words = BROKEN[kind]
    change(model)
    with pytest.raises(checkpoint.CheckpointError) as raised:
        checkpoint.pack(model, torch.float32)
    message = str(raised.value)
    assert str(model) in message and words in message and "\n" not in message
    assert message.endswith("fetch the model again")
