"""The machine after the whole play, ready to be turned into an image."""

import json
import os
from pathlib import Path

import pytest
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
WORDS = (PROJECT / "tests/fixtures/samples/short.txt").read_text().split()
HOME = "/opt/transcribe"


@pytest.mark.parametrize("strategy", ["state", "standard"])
def test_anyone_gets_the_words(host: Host, strategy: str) -> None:
    command = f"transcribe --load {strategy} --timings=json {HOME}/sample.flac"
    done = host.run(f"setpriv --reuid=nobody --clear-groups {command}")
    assert done.rc == 0, done.stderr
    assert done.stdout.split() == WORDS
    assert json.loads(done.stderr.splitlines()[-1])["strategy"] == strategy


def test_nothing_but_the_layout_is_in_the_home(host: Host) -> None:
    assert host.check_output(f"LC_ALL=C ls -A {HOME}").split() == [
        "THIRD-PARTY-LICENCES.txt", "image.json", "model", "prefetch.list", "prefetch.py", "runtime",
        "sample.flac", "state", "venv",
    ]  # fmt: skip


def test_what_was_lent_is_nowhere_on_the_disk(host: Host) -> None:
    assert host.check_output("findmnt --noheadings --output FSTYPE --target /run/preheat") == "tmpfs"
    assert host.run("grep -rsl /run/preheat /etc /usr/local /home /root").stdout == ""
