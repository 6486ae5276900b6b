"""`make ami` on a host that is no build host: without root, nothing installed, a venv of its own."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory.console import ROOT

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
SYSTEM = "/usr/local/bin:/usr/bin:/bin"


def prepared(folder: Path) -> Path:
    """A checkout owned by an ordinary user, without a venv."""
    listed = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output([*listed, "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("tests/fixtures/", "docs/", "bench/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "tests/fixtures/whisper-nato", folder / "tests/fixtures/whisper-nato")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return folder


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A checkout as `prepared` makes it, in a folder that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="preheat-laptop-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "home").mkdir()
    os.chown(folder / "home", NOBODY, NOBODY)
    yield prepared(folder / "preheat")
    subprocess.run(["rm", "-rf", folder], check=True)  # twice as fast as Python


def run(checkout: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout as its owner, with an environment for the package registry only."""
    ways = ("PIP_", "UV_", "SSL_", "REQUESTS_", "http", "HTTP", "no_proxy", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if name.startswith(ways)}
    environment = kept | {"PATH": SYSTEM, "HOME": str(checkout.parent / "home"), **more}
    return subprocess.run(
        [*AS_NOBODY, *command], cwd=checkout, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(checkout: Path) -> Path:
    """The checkout after a first `make ami`, which stops at the first missing program."""
    first = run(checkout, "make", "ami", AWS_EC2_METADATA_DISABLED="true", PACKER="/bin/false")
    assert "making .venv from requirements-ami.txt" in first.stdout
    assert "error: cannot read the version of /bin/false" in first.stdout, first.stdout
    assert "Traceback" not in first.stdout
    return checkout


def test_it_gets_as_far_as_packer_and_then_is_quick(installed: Path) -> None:
    again = run(installed, "make", "ami", PACKER="/bin/false")
    assert again.returncode
    assert "making" not in again.stdout
    assert "cannot read the version of" in again.stdout


def test_with_packer_it_gets_as_far_as_the_credentials(installed: Path) -> None:
    """With AWS_ENDPOINT_URL set, Debian's old Packer is accepted; nothing listens there or is called."""
    done = run(
        installed, "make", "ami", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_EC2_METADATA_DISABLED="true"
    )
    assert "error: there are no AWS credentials" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout


def test_the_fleet_needs_no_more(installed: Path) -> None:
    for target in ("fleet", "fleet-status", "fleet-remove"):
        done = run(
            installed, "make", target, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_EC2_METADATA_DISABLED="true"
        )
        assert "error: there are no AWS credentials" in done.stdout, done.stdout
        assert "Traceback" not in done.stdout


def test_nothing_is_installed_that_only_the_image_needs(installed: Path) -> None:
    packages = {path.name for path in installed.glob(".venv/lib/python3*/site-packages/*")}
    assert {"ansible", "boto3", "hcl2", "huggingface_hub", "lark", "httpx2", "testinfra"} <= packages
    assert not {"torch", "transformers", "moto", "molecule"} & packages


def test_the_proof_finds_what_its_tests_import(installed: Path) -> None:
    """As factory/ec2/proof.py runs them on an instance."""
    tests = [".venv/bin/python", "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = run(installed, *tests, "--machine=/nowhere", "--record=/nowhere", "tests/image")
    assert done.returncode == 0, done.stdout
    assert "test_system.py::" in done.stdout


def test_nobodys_keys_are_left(installed: Path) -> None:
    """They are in a folder that only the user may enter, and that is removed after the run."""
    program = """
from factory.workspace import secrets, workspace, temporary
with workspace("try") as folder, secrets() as keys:
    print(keys.parent == temporary(folder), keys.parent.parent, oct(keys.parent.stat().st_mode & 0o777))
print(temporary(folder).exists())
"""
    done = run(installed, ".venv/bin/python", "-c", program)
    assert done.stdout.split() == ["True", "/tmp", "0o700", "False"]  # noqa: S108


def test_a_folder_that_somebody_else_has_made_is_not_used(installed: Path) -> None:
    where = run(
        installed, ".venv/bin/python", "-c",
        "from factory import workspace as w; print(w.temporary(w.BUILD / 'run/try'))",
    ).stdout.strip()  # fmt: skip
    Path(where).mkdir()
    try:
        program = "from factory.workspace import workspace\nwith workspace('try'): print('used')"
        done = run(installed, ".venv/bin/python", "-c", program)
        assert "used" not in done.stdout
        assert where in done.stdout
    finally:
        Path(where).rmdir()


def test_what_needs_root_says_so_in_its_first_line(installed: Path) -> None:
    for target in ("image", "demo", "test"):
        done = run(installed, "make", target)
        assert done.returncode
        assert done.stdout.splitlines()[0].startswith("setup: every target but make ami needs root"), (
            done.stdout
        )


def test_a_checkout_of_another_user_is_told(installed: Path) -> None:
    (installed / "build/ami").mkdir(parents=True, exist_ok=True)
    os.chown(installed / "build/ami", 0, 0)
    try:
        done = run(installed, "make", "ami")
        assert done.stdout.startswith(f"setup: {installed}/build/ami belongs to another user")
    finally:
        os.chown(installed / "build/ami", NOBODY, NOBODY)


def test_without_a_python_that_is_new_enough(installed: Path, tmp_path: Path) -> None:
    """None of the names tried is new enough; /usr/bin/python3 stands in for macOS's."""
    script = (installed / "factory/setup-ami.sh").read_text()
    assert "(3, 11)" in script
    done = run(
        installed, "bash", "-c", script.replace("(3, 11)", "(9, 0)"), f"{installed}/factory/setup-ami.sh"
    )
    assert done.stdout.startswith("setup: make ami needs Python 3.11 or newer on PATH"), done.stdout


def test_a_venv_of_the_build_host_serves_and_one_that_was_moved_does_not(installed: Path) -> None:
    """The last test here: afterwards nothing can be installed."""
    locks = [installed / name for name in ("requirements.txt", "ansible/roles/venv/files/uv.txt")]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    (installed / ".venv/lock.sha256").write_text(f"{digest}  -\n")  # as setup.sh writes it
    assert run(installed, "factory/setup.sh", "ami").stdout == ""
    configuration = installed / ".venv/pyvenv.cfg"
    configuration.write_text(configuration.read_text().replace(f" {installed}/.venv", " /elsewhere/.venv"))
    done = run(installed, "factory/setup.sh", "ami", PIP_INDEX_URL="http://127.0.0.1:9", PIP_RETRIES="0")
    assert done.returncode
    assert "making .venv" in done.stdout
