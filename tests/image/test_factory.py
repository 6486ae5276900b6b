"""The build host itself: nothing is left behind by an error, an interruption or a kill; Packer's template."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Timer

import pytest

from factory import clean, packer
from factory import workspace as workspaces
from factory.console import BUILD, ROOT, FactoryError, run
from factory.local import basedisk, image, mounts
from factory.local.basedisk import make_base_disk
from factory.local.image import Artifact, build_on, check_file_system
from factory.local.machine import booted, held_port
from factory.ssh import Machine
from factory.workspace import temporary, workspace

# Boots a disk, says so, and stays until it is stopped.
STAY = """
import time
from pathlib import Path
from factory import cli
from factory.local import machine

def stay():
    with machine.booted(Path({disk!r}), "test-factory", keep=False):
        print("up", flush=True)
        time.sleep(600)

cli.COMMANDS["stay"] = stay
cli.main()
"""


def leftovers() -> list[str]:
    """Mounts, loop devices and machines that belong to the folder these tests use."""
    marks = (str(BUILD / "run/test-factory"), str(BUILD / "run/test-base.raw"))
    loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout
    lines = [*Path("/proc/self/mounts").read_text().splitlines(), *loops.splitlines()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "preheat.machine=" in command:
            lines.append(command)
    return [line for line in lines if any(mark in line for mark in marks)]


@contextmanager
def machine_that_stays(disk: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with a running machine; always ended after the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAY.format(disk=str(disk)), "stay"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert leftovers(), "the check sees a machine that is up"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        with workspace("test-factory"):
            pass


def test_the_next_run_finds_where_a_killed_one_has_mounted_the_base_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = []

    @contextmanager
    def mounted(_disk: Path, target: Path, _offset: int) -> Iterator[Path]:
        targets.append(target)
        yield target

    monkeypatch.setattr(basedisk, "mounted", mounted)
    for name in ("rootfs", "make_esp", "run"):
        monkeypatch.setattr(basedisk, name, lambda *_words: "")
    (tmp_path / "workspace/scratch").mkdir(parents=True)
    make_base_disk(tmp_path / "disk", tmp_path / "workspace")
    assert [target.is_relative_to(tmp_path / "workspace") for target in targets] == [True]


def test_clean_deletes_nothing_within_a_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance a mount that a killed run has left anywhere in build/."""
    for module in (clean, workspaces):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(clean, "MOLECULE_IMAGE", "localhost/preheat-no-such-image")
    disk, folder = tmp_path / "disk", tmp_path / "build/a scratch/root"
    disk.write_bytes(bytes(1 << 20))
    run("mke2fs", "-q", "-F", disk)
    folder.mkdir(parents=True)
    run("mount", "-o", "loop", disk, folder)
    (folder / "precious").touch()
    clean.clean()
    assert not (tmp_path / "build").exists()
    folder.mkdir(parents=True)
    with mounts.mounted(disk, folder, 0) as root:
        assert (root / "precious").exists()


@contextmanager
def copy_of_all_mounts(propagation: str) -> Iterator[None]:
    """A process with a mount namespace of its own, as containers and machines have."""
    command = ["unshare", "--mount", "--propagation", propagation, "sh", "-c", "echo; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # its namespace exists now
        yield
        process.stdin.close()


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system without a partition table before it."""
    monkeypatch.setattr("factory.local.image.ROOT_OFFSET", 0)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(64 << 20))
    run("mke2fs", "-q", "-F", "-t", "ext4", disk)
    return disk


@pytest.mark.parametrize("propagation", ["private", "slave", "shared"])
def test_a_disk_is_whole_after_its_mount_though_somebody_has_a_copy_of_it(
    propagation: str, small_disk: Path, tmp_path: Path
) -> None:
    with ExitStack() as later:
        with mounts.mounted(small_disk, tmp_path / "a place", 0) as root:
            (root / "precious").write_text("all of it")
            later.enter_context(copy_of_all_mounts(propagation))
        check_file_system(small_disk)
        assert run("debugfs", "-R", "cat precious", small_disk) == "all of it"


@pytest.mark.parametrize("propagation", ["private", "slave", "shared"])
def test_a_disk_can_be_mounted_again_though_a_machine_has_started_meanwhile(
    propagation: str, small_disk: Path, tmp_path: Path
) -> None:
    with ExitStack() as later:
        with mounts.mounted(small_disk, tmp_path / "root", 0):
            later.enter_context(copy_of_all_mounts(propagation))
        with mounts.mounted(small_disk, tmp_path / "root", 0) as root:
            (root / "precious").touch()


def test_a_file_system_that_was_not_unmounted_is_no_artifact(small_disk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with mounts.mounted(small_disk, tmp_path / "root", 0) as root:
        (root / "file").touch()
        run("sync", "--file-system", root)
        run("cp", small_disk, copy)
    check_file_system(small_disk)
    with pytest.raises(FactoryError, match="damaged"):
        check_file_system(copy)


def fake_build(monkeypatch: pytest.MonkeyPatch, build: Path) -> Artifact:
    """A build in another folder, faked except for the ownership of its files."""
    files = Artifact(**{name: build / name for name in vars(image.ARTIFACT)})
    monkeypatch.setattr(workspaces, "BUILD", build)
    monkeypatch.setattr(image, "ARTIFACT", files)
    monkeypatch.setattr("factory.inputs.fingerprint", lambda: "new")
    monkeypatch.setattr(image, "make_base_disk", lambda disk, _folder: disk.write_text("new"))
    monkeypatch.setattr(image, "booted", lambda *_words, **_keep: nullcontext())

    def build_on(_machine: None, made: Artifact) -> None:
        made.record.write_text("new")
        made.manifest.write_text("new")

    monkeypatch.setattr(image, "build_on", build_on)
    monkeypatch.setattr(image, "finish", lambda made: made.qcow2.write_text("new"))
    build.mkdir()
    for path in vars(files).values():
        path.write_text("old")
    return files


def test_a_second_build_leaves_the_files_of_the_first_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fake_build(monkeypatch, tmp_path / "build")
    with workspace("build"), pytest.raises(FactoryError, match="another run"):
        image.image()
    assert {path.read_text() for path in vars(files).values()} == {"old"}


def test_an_image_that_is_up_to_date_is_used_by_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fake_build(monkeypatch, tmp_path / "build")
    files.stamp.write_text("new")
    with workspace("build"):
        image.image()
    assert files.raw.read_text() == "old"


def test_the_old_image_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fake_build(monkeypatch, tmp_path / "build")
    with monkeypatch.context() as failing:
        failing.setattr(image, "finish", lambda _made: run("false"))
        with pytest.raises(FactoryError):
            image.image()
    assert {path.read_text() for path in vars(files).values()} == {"old"}
    image.image()
    assert {path.read_text() for path in vars(files).values()} == {"new"}


@pytest.mark.parametrize("name", sorted(vars(image.ARTIFACT)))
def test_an_image_that_lacks_a_file_is_not_up_to_date(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fake_build(monkeypatch, tmp_path / "build")
    image.image()
    (tmp_path / "build" / name).unlink()
    image.image()
    assert {path.read_text() for path in vars(files).values()} == {"new"}


def test_clean_says_what_it_could_not_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clean, workspaces):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(clean, "MOLECULE_IMAGE", "localhost/preheat-no-such-image")
    kept = tmp_path / "build/kept"
    kept.mkdir(parents=True)
    (kept / "file").touch()
    run("chattr", "+i", kept / "file")
    try:
        with pytest.raises(FactoryError, match=r"not permitted.*file"):
            clean.clean()
    finally:
        run("chattr", "-i", kept / "file")


def test_an_interrupted_packer_that_says_much_ends(tmp_path: Path) -> None:
    """It prints more than a pipe holds while it cleans up."""
    chatty = "trap 'seq 100000; exit 1' INT; echo up; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        ["bash", "-c", chatty], text=True, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    rescue = Timer(60, process.kill)  # in case it hangs
    rescue.start()
    with (tmp_path / "log").open("w") as log:
        packer.stop(process, log)
    rescue.cancel()
    assert process.returncode == 1
    assert (tmp_path / "log").read_text().endswith("\n100000\n")


def test_a_port_is_its_machines_alone() -> None:
    """Even before sshd or QEMU, which set SO_REUSEADDR, listens on it."""
    with held_port() as port, socket.socket() as another, socket.socket() as server:
        with pytest.raises(OSError, match="in use"):
            another.bind(("127.0.0.1", port))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_an_error_takes_the_machine_down(base_disk: Path) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), booted(base_disk, "test-factory", keep=False):
        raise RuntimeError("in the middle")
    assert leftovers() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_takes_the_machine_down(base_disk: Path, how: signal.Signals) -> None:
    with machine_that_stays(base_disk) as process:
        os.killpg(process.pid, how)
        assert process.wait(120) == 130
        assert leftovers() == []


def test_the_next_run_clears_what_a_killed_one_left(base_disk: Path) -> None:
    with machine_that_stays(base_disk) as process:
        process.kill()
        process.wait()
        assert leftovers()
        with workspace("test-factory"):
            assert leftovers() == []


def test_the_next_run_ends_the_processes_and_files_of_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a process in a session of its own, as Packer's Ansible is, outside the run's process group."""
    monkeypatch.setattr(workspaces, "BUILD", tmp_path)
    with workspace("killed") as folder:
        orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
        for scratch in (folder / "scratch", temporary(folder)):
            (scratch / "key").touch()
    assert orphan.poll() is None
    with workspace("killed") as folder:
        assert orphan.wait(10) == -signal.SIGKILL
        assert [*(folder / "scratch").iterdir(), *temporary(folder).iterdir()] == []


def test_packer_keeps_the_instances_key_where_the_next_run_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "BUILD", tmp_path)
    monkeypatch.setattr(packer, "packer", lambda: tmp_path / "packer")
    monkeypatch.setattr(packer, "version", lambda _program: (1, 6, 6))
    (tmp_path / "packer").write_text(f"#!/bin/sh\necho $TMPDIR >{tmp_path}/scratch\n")
    (tmp_path / "packer").chmod(0o755)
    with workspace("build") as folder:
        packer.build("null.local", {}, tmp_path / "log")
    assert Path((tmp_path / "scratch").read_text().strip()).parent == temporary(folder)


def test_two_runs_do_not_share_a_machine(base_disk: Path) -> None:
    with (
        booted(base_disk, "test-factory", keep=False),
        pytest.raises(FactoryError, match="another run"),
        workspace("test-factory"),
    ):
        pass


def test_a_disk_that_does_not_boot_shows_its_console(
    base_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.local.machine.SSHD", "[Service]\nExecStart=\nExecStart=/bin/false {port}\n")
    monkeypatch.setattr("factory.local.machine.BOOT_SECONDS", 10)
    with (
        pytest.raises(FactoryError, match="did not answer ssh") as error,
        booted(base_disk, "test-factory", keep=False),
    ):
        pass
    assert "console" in str(error.value)
    assert leftovers() == []


def test_a_failing_play_says_what_failed_and_where_the_log_is(
    base_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text("image_ca_bundle: /nonexistent.crt\n")  # what the play needs first
    monkeypatch.setenv("MODEL", str(broken))
    with booted(base_disk, "test-factory", keep=False) as machine, pytest.raises(FactoryError) as error:
        build_on(machine, Artifact(**dict.fromkeys(vars(image.ARTIFACT), tmp_path / "unused")))
    assert "/nonexistent.crt" in str(error.value)
    assert str(BUILD / "logs/image.log") in str(error.value)


def test_a_machine_that_reboots_comes_back(base_disk: Path) -> None:
    """The play reboots it."""

    def boot_id(machine: Machine) -> str:
        return machine.run("cat /proc/sys/kernel/random/boot_id")

    with booted(base_disk, "test-reboot", keep=True) as machine:
        before = boot_id(machine)
        machine.run("sudo touch /lasting; sudo systemctl reboot")
        end, after = time.monotonic() + 120, before
        while after == before and time.monotonic() < end:
            with suppress(FactoryError):
                after = boot_id(machine)
        assert after != before
        machine.run("test -e /lasting")
