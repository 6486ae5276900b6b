"""Unusual build hosts: with users' own settings, odd paths, or something missing."""

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory import clean, inputs
from factory import workspace as workspaces
from factory.console import ROOT, FactoryError, run
from factory.local import host, image, mounts

NEEDED = {
    "https_proxy": "http://proxy.example:3128",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    "PIP_INDEX_URL": "https://mirror.example/simple",
    "AWS_PROFILE": "images",
    "HF_TOKEN": "hf_a b\nc",
    "PACKER_LOG": "1",
    "MODEL": "whisper.yml",
}
UNWANTED = {
    "PYTHONPATH": "/nonexistent",
    "PYTHONHOME": "/nonexistent",
    "PYTHONWARNINGS": "error",
    "ANSIBLE_VAULT_PASSWORD_FILE": "/nonexistent",
    "ANSIBLE_STDOUT_CALLBACK": "nonexistent",
    "GIT_DIR": "/nonexistent",
    "PIP_TARGET": "/nonexistent",
    "PIP_REQUIRE_VIRTUALENV": "no",
    "UV_PYTHON": "3.99",
    "LANG": "tlh",
    "LC_ALL": "C",
    "LD_PRELOAD": "",
    "TAR_OPTIONS": "--verbose",
    "GREP_OPTIONS": "--count",
    "MKE2FS_CONFIG": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "BASH_FUNC_env%%": "() { echo caught; }",
}


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, str]:
    """A login environment with many variables; its BASH_ENV leaves a trace if it is run."""
    (tmp_path / "bashrc").write_text(f"touch {tmp_path}/trace\n")
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/root",
        "BASH_ENV": str(tmp_path / "bashrc"),
        **NEEDED,
        **UNWANTED,
    }


def test_what_is_started_gets_what_it_needs_and_no_more(odd: dict[str, str], tmp_path: Path) -> None:
    command = [str(ROOT / "factory/environment.sh"), "env", "--null"]
    rows = subprocess.check_output(command, env=odd, text=True).split("\0")
    told = dict(row.split("=", 1) for row in rows if row)
    assert not (tmp_path / "trace").exists()
    assert {name: told.get(name) for name in NEEDED} == NEEDED
    assert told["LC_ALL"] == "C.UTF-8"
    assert told.keys() - NEEDED.keys() == {"PATH", "HOME", "LC_ALL", "PREHEAT_ENVIRONMENT"}
    places = told["PATH"].split(":")
    assert places[0] == str(ROOT / ".venv/bin")
    assert "/usr/sbin" in places, "as after `su`"


def test_its_files_may_be_read_by_others() -> None:
    """They go into the image. Hardened hosts have a stricter umask."""
    made = "umask 077; factory/environment.sh sh -c umask"
    assert run("sh", "-c", f"cd {ROOT}; {made}").strip() == "0022"


@pytest.mark.parametrize(
    "target", ["setup", "image", "demo", "ami", "test", "test-fast", "test-slow", "lint", "lock", "clean"]
)
def test_all_that_make_starts_gets_that_environment(target: str) -> None:
    started = run("make", "--directory", ROOT, "--dry-run", "--no-print-directory", target).splitlines()
    assert started
    assert [line for line in started if not line.startswith("factory/environment.sh ")] == []
    assert "exec factory/environment.sh make test" in (ROOT / ".ci/run").read_text()


def test_so_does_the_factory_without_make(odd: dict[str, str], tmp_path: Path) -> None:
    """Checked in the first program that it starts; until then, it imports nothing of the caller's."""
    del odd["PYTHONHOME"]  # with it no Python in a venv starts
    (tmp_path / "argparse.py").write_text("raise SystemExit('the caller has another argparse')")
    (tmp_path / "rm").write_text(f'#!/bin/sh\nenv >{tmp_path}/told\nexec /bin/rm "$@"\n')
    (tmp_path / "rm").chmod(0o755)
    odd |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": f"{tmp_path}:{odd['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "factory", "rootfs"],
        cwd=tmp_path, env=odd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "told").read_text()
    assert "LC_ALL=C.UTF-8" in told
    assert "GIT_DIR" not in told


def test_ansible_asks_ssh_for_nothing_of_the_users(tmp_path: Path) -> None:
    """In a mount namespace with another folder as root's home: ssh ignores HOME."""
    config = configparser.ConfigParser()
    config.read(ROOT / "ansible/ansible.cfg")
    arguments = config["ssh_connection"]["ssh_args"]
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host *\n  ProxyJump bastion.example\n  User someone\n  Port 9\n")
    home = "mount --bind $0 ~root && exec ssh -G"
    of_users = run("unshare", "--mount", "sh", "-c", f"{home} machine", tmp_path)
    assert "proxyjump bastion.example" in of_users, "the check sees the user's configuration"
    ours = run("unshare", "--mount", "sh", "-c", f"{home} {arguments} machine", tmp_path).splitlines()
    assert {"port 22", "user root", "userknownhostsfile /dev/null", "identitiesonly yes"} <= set(ours)
    assert [line for line in ours if "bastion" in line] == []


# Places


def copy_of_the_front_door(folder: Path) -> Path:
    """A copy of the files that a command needs in its first second, at another path."""
    (folder / "factory").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("environment.sh", "environment.txt"):
        shutil.copy(ROOT / "factory" / name, folder / "factory")
    (folder / "factory/setup.sh").write_text("#!/bin/sh\necho set up\n")
    (folder / "factory/setup.sh").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "name", ["a checkout", "a:b", "100%", "a,b", "it's", "größe", "a\nb", "a\\b", "[a]", "$a"]
)
def test_a_place_that_cannot_be_worked_in_is_refused_at_once(name: str, tmp_path: Path) -> None:
    checkout = copy_of_the_front_door(tmp_path / name)
    done = subprocess.run(["make", "setup"], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode
    assert f"the path {checkout} has other characters than letters" in done.stderr
    assert "set up" not in done.stdout


def test_a_build_folder_at_such_a_place_is_refused_too(tmp_path: Path) -> None:
    checkout = copy_of_the_front_door(tmp_path / "checkout")
    assert "set up" in run("make", "--directory", checkout, "setup").splitlines()
    (checkout / "build").symlink_to(tmp_path / "a disk/build")
    with pytest.raises(FactoryError, match=r"the path .*/a disk/build has other characters"):
        run("make", "--directory", checkout, "setup")


def test_a_build_folder_may_be_a_link_even_to_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "build").symlink_to(tmp_path / "disk/build")
    shutil.copytree(ROOT / "factory", tmp_path / "factory", ignore=shutil.ignore_patterns("__pycache__"))
    where = "from factory import console; print(console.BUILD)"
    told = subprocess.check_output([sys.executable, "-c", where], cwd=tmp_path, text=True)
    assert told.strip() == str(tmp_path / "disk/build")


def test_clean_leaves_a_disk_where_it_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = tmp_path / "build"
    for module in (clean, workspaces):
        monkeypatch.setattr(module, "BUILD", build)
    monkeypatch.setattr(clean, "MOLECULE_IMAGE", "localhost/preheat-no-such-image")
    build.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", build)
    try:
        (build / "image.json").touch()
        clean.clean()
        assert build.is_mount()
        assert list(build.iterdir()) == []
    finally:
        run("umount", build)


def test_clean_needs_nothing_installed(tmp_path: Path) -> None:
    """Not even the venv: it uses only the standard library."""
    for name in ("Makefile", "factory", "runtime"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "build/run/left").mkdir(parents=True)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    subprocess.run(["make", "clean"], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "build").exists()
    (tmp_path / "build/run/ami").mkdir(parents=True)
    (tmp_path / "build/run/ami/preheat-1.json").touch()
    done = subprocess.run(
        ["make", "clean"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "lists resources that may still run on EC2" in done.stderr
    assert "make setup-ami clean" in done.stderr


def only_begin_setup(folder: Path) -> Path:
    """A checkout with setup.sh, shortened to where it starts to create a venv."""
    for name in ("factory/setup.sh", "requirements.txt", "ansible/roles/venv/files/uv.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    head, making, _ = (ROOT / "factory/setup.sh").read_text().partition("  /usr/bin/python3 -m venv")
    assert making
    (folder / "factory/setup.sh").write_text(f"{head}fi\n")
    return folder


def test_molecule_finds_its_configuration_in_an_unpacked_tarball(tmp_path: Path) -> None:
    """In a clone molecule finds it by the repository's folder; here even inside another repository."""
    run("git", "init", "--quiet", tmp_path)
    folder = only_begin_setup(tmp_path / "preheat-0.1.0")
    shutil.copytree(ROOT / ".config", folder / ".config")
    run(folder / "factory/setup.sh")
    where = "from molecule.shell import LOCAL_CONFIG; print(LOCAL_CONFIG)"
    told = subprocess.check_output([sys.executable, "-c", where], cwd=folder, text=True)
    assert told.splitlines()[-1] == str(folder / ".config/molecule/config.yml")


@pytest.mark.parametrize("changed", ["", "version", "command", "lock"])
def test_a_venv_is_made_anew_where_it_was_moved_to(changed: str, tmp_path: Path) -> None:
    """Also for another Python version or a changed lock."""
    only_begin_setup(tmp_path)
    (tmp_path / ".venv").mkdir()
    version = run("/usr/bin/python3", "-c", "import platform; print(platform.python_version())").strip()
    written = {"version": version, "command": f"/usr/bin/python3 -m venv --clear {tmp_path}/.venv"}
    lock = run("sh", "-c", f"cd {tmp_path}; cat requirements.txt ansible/roles/venv/files/uv.txt | sha256sum")
    if changed in written:
        written[changed] = "/elsewhere" if changed == "command" else "3.9.2"
    (tmp_path / ".venv/pyvenv.cfg").write_text(
        "".join(f"{key} = {value}\n" for key, value in written.items())
    )
    (tmp_path / ".venv/lock.sha256").write_text("another" if changed == "lock" else lock)
    printed = run(tmp_path / "factory/setup.sh")
    assert ("making .venv" in printed) == bool(changed)


def test_a_commit_that_git_does_not_tell_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For instance in a worktree whose repository is missing. Outside a checkout "unknown" is right."""
    tmp_path /= "checkout"
    tmp_path.mkdir()
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    assert inputs.git_commit() == "unknown"
    run("git", "init", "--quiet", tmp_path.parent)  # a repository that it only lies in
    run("git", "-C", tmp_path.parent, "-c", "user.name=a", "-c", "user.email=a@example.org",
        "commit", "--quiet", "--allow-empty", "--message=a")  # fmt: skip
    assert inputs.git_commit() == "unknown"
    assert capsys.readouterr().err == ""
    (tmp_path / ".git").write_text("gitdir: /nonexistent/worktrees/a\n")
    assert inputs.git_commit() == "unknown"
    assert "git failed: fatal: not a git repository: /nonexistent" in capsys.readouterr().err


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A build folder on a disk of 1 MiB, mounted noexec."""
    folder = tmp_path / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "noexec,size=1m", "tmpfs", folder)
    for module in (image, workspaces):
        monkeypatch.setattr(module, "BUILD", folder / "build")
    monkeypatch.setattr(
        image, "ARTIFACT", image.Artifact(**dict.fromkeys(vars(image.ARTIFACT), folder / "no"))
    )
    monkeypatch.setattr(image, "make_base_disk", lambda disk, _folder: disk.write_bytes(bytes(2 << 20)))
    yield folder
    run("umount", folder)


def test_a_disk_that_is_too_small_is_told_before_work(small: Path) -> None:
    with pytest.raises(FactoryError, match=f"build has 0.0 GB left on {small}, but a new image needs 15 GB"):
        image.image()


def test_a_disk_where_no_program_runs_is_told_before_work(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "IMAGE_BYTES", 0)
    monkeypatch.setattr(host, "FULL", 0)
    with pytest.raises(FactoryError, match=f"mounted noexec, .*\n.*remount,exec {small}$"):
        image.image()


def test_a_folder_for_temporary_files_where_no_program_runs_is_told_before_tests(small: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "tests/roles/test_licences.py"]
    places = os.environ | {"TMPDIR": str(small)}
    done = subprocess.run(command, cwd=ROOT, env=places, capture_output=True, text=True, check=False)
    assert done.returncode
    assert (
        f"{small} is mounted noexec, and tests start programs there; set TMPDIR" in done.stderr + done.stdout
    )


def test_a_disk_that_becomes_full_is_told_as_that(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "IMAGE_BYTES", 0)
    monkeypatch.setattr(image, "check_programs_run", lambda _folder: None)
    with pytest.raises(FactoryError, match=rf"build has no space left on {small}: \[Errno 28\]"):
        image.image()


def test_with_room_left_an_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match=r"^another reason"), host.room(tmp_path, 0):
        raise FactoryError("another reason", "")


def test_a_host_without_a_loop_device_is_told_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers often have none."""
    (tmp_path / "losetup").write_text(
        "#!/bin/sh\necho 'losetup: cannot find an unused loop device' >&2; exit 1\n"
    )
    (tmp_path / "losetup").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(workspaces, "BUILD", tmp_path)
    monkeypatch.setattr(
        image, "ARTIFACT", image.Artifact(**dict.fromkeys(vars(image.ARTIFACT), tmp_path / "no"))
    )
    monkeypatch.setattr(image, "make_base_disk", lambda *_words: pytest.fail("this is work"))
    with pytest.raises(FactoryError, match=r"no free loop device.*cannot find.*\n.*--privileged"):
        image.image()
    with pytest.raises(FactoryError, match="no free loop device"), mounts.mounted(tmp_path, tmp_path, 0):
        pass
    (tmp_path / "losetup").write_text("#!/bin/sh\necho /dev/loop-that-is-not-there\n")
    with pytest.raises(FactoryError, match="no /dev/loop-that-is-not-there"):
        host.check_loop_devices()
