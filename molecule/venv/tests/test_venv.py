"""The venv after the role `venv`."""

import re

from testinfra.host import Host

VENV = "/opt/transcribe/venv"
LICENCES = "/opt/transcribe/THIRD-PARTY-LICENCES.txt"
USED_BY_RUNTIME = "import soundfile, soxr, tokenizers, torch; print(torch.__version__)"


def test_its_python_is_the_distributions_own(host: Host) -> None:
    assert host.file(f"{VENV}/bin/python").linked_to == "/usr/bin/python3.11"


def test_anyone_can_use_what_the_runtime_needs(host: Host) -> None:
    found = host.check_output(f"setpriv --reuid=nobody --clear-groups {VENV}/bin/python -c '{USED_BY_RUNTIME}'")
    assert found.startswith("2.15.0")


def test_nobody_else_can_change_it(host: Host) -> None:
    assert host.check_output(f"find {VENV} -not -user root -o -perm /022 -not -type l") == ""


def locked(host: Host) -> set[str]:
    """The packages of the lock, as name==version."""
    lock = host.file(f"{VENV}/requirements.txt").content_string
    return {line.split()[0] for line in lock.splitlines() if "==" in line and not line.startswith(" ")}


def test_the_packages_are_those_of_the_lock(host: Host) -> None:
    code = "from importlib.metadata import distributions as d; [print(f'{x.name.lower()}=={x.version}') for x in d()]"
    installed = host.check_output(f'{VENV}/bin/python -c "{code}"').split()
    assert {name.replace("_", "-") for name in installed} == locked(host)


def test_everything_is_compiled(host: Host) -> None:
    # Only torch: other packages may have modules that this Python cannot compile.
    missing = host.check_output(
        f"cd {VENV}/lib/python3.11/site-packages/torch/nn && find . -name '*.py' | while read -r module; do"
        ' test -e "$(dirname "$module")/__pycache__/$(basename "$module" .py).cpython-311.pyc" || echo "$module"; done'
    )
    assert missing == ""


def test_installers_and_their_caches_are_gone(host: Host) -> None:
    for path in (f"{VENV}/bin/uv", f"{VENV}/bin/pip", f"{VENV}/.uv-cache", "/root/.cache/uv", "/root/.cache/pip"):
        assert not host.file(path).exists, path


def test_the_licences_name_every_package_and_have_the_texts(host: Host) -> None:
    file = host.file(LICENCES)
    assert (file.user, file.mode) == ("root", 0o644)
    rule = "#" * 110
    parts = file.content_string.split(f"{rule}\n")  # head, then name and rest of each package in turn
    packages = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert {name.strip().replace(" ", "==") for name in packages} == locked(host)
    bare = [name.split()[0] for name, text in packages.items() if "\n--- " not in text]
    assert bare == ["cuda-toolkit"]  # a metapackage without contents
    of_av = next(text for name, text in packages.items() if name.startswith("av "))
    assert re.search(r"\nFFmpeg \d\S+; its licence, as it reports it: L?GPL version 3 or later\n", of_av)
    for name in ("GPL-2", "GPL-3", "LGPL-2.1", "LGPL-3"):  # the full text of each
        assert host.file(f"/usr/share/common-licenses/{name}").content_string.rstrip() in of_av, name
    for library in host.check_output(f"ls {VENV}/lib/python3.11/site-packages/av.libs").split():
        assert library in of_av
