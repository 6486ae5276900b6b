"""README and docs/ are correct: links resolve, commands exist, generated parts are current, figures measured.

Commands are not run but parsed: by Bash, by make, by the command's own parser, by AWS's description of its
interface.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore import xform_name

from factory.console import ROOT
from factory.docs import PARTS, SOURCES, rewritten
from preheat.cli import arguments

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
PROMPT = re.compile(r"^\$ (.+)$", re.MULTILINE)
INLINE = ("aws", "make", "python", "ssh", "transcribe")  # their commands are also checked within the text
FIGURE = re.compile(r"(\d+(?:\.\d+)?) (s|times|tokens a second)\b")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 120


@each_page
def test_generated_parts_are_up_to_date(page: Path) -> None:
    assert rewritten(page.read_text()) == page.read_text(), "Run: make docs"


def test_every_generated_part_is_on_a_page() -> None:
    names = [match["name"] for page in PAGES for match in PARTS.finditer(page.read_text())]
    assert sorted(names) == sorted(SOURCES)


@each_page
def test_every_block_says_what_it_is(page: Path) -> None:
    """So that no command goes unchecked."""
    languages = {match["language"] for match in FENCE.finditer(page.read_text())}
    assert languages <= {"sh", "console", "text", "yaml", "python"}
    assert not re.search(r"^(?:    |```)", prose(page), re.MULTILINE)


# ---- links and paths


@each_page
def test_links_resolve(page: Path) -> None:
    for match in LINK.finditer(prose(page)):
        target, _, heading = match["target"].partition("#")
        if target.startswith("https://"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), match[0]
        assert not heading or heading in headings(file), match[0]


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_paths_exist(page: Path) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build", ".git"}
    spans = [span for span in SPAN.findall(prose(page)) if span.partition("/")[0] in folders and "/" in span]
    missing = [
        span for span in spans if not list(ROOT.glob(span.split()[0].replace("NAME", "*").rstrip("/")))
    ]
    assert missing == []


# ---- commands


def commands(page: Path) -> list[list[str]]:
    """The words of every command on a page: in blocks of sh, after a console's prompt, and in the text."""
    spans = [span for span in SPAN.findall(prose(page)) if " " in span]
    lines = [span for span in spans if program(span.split()) in INLINE]
    for match in FENCE.finditer(page.read_text()):
        if match["language"] not in ("sh", "console"):
            continue
        prompted = "\n".join(PROMPT.findall(match["text"]))
        text = match["text"] if match["language"] == "sh" else prompted
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        lines += text.replace("\\\n", " ").splitlines()
    return [command for line in lines for command in simple(line)]


def simple(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of shell, as words, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|<>()"):
            if command:
                yield command
            command = []
        else:
            command.append(word)


def program(words: list[str]) -> str:
    """The program that a command runs, without sudo, environment.sh and the venv's folder before it."""
    return next(iter(bare(words)), "").removeprefix(".venv/bin/")


def bare(words: list[str]) -> list[str]:
    """A command without what goes before the program."""
    while words and (
        words[0] in ("sudo", "env", "factory/environment.sh") or re.match(r"[A-Z_]+=", words[0])
    ):
        words = words[1:]
    return words


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    exported = re.findall(r"^export (.+)$", makefile, re.MULTILINE)[0].split()
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert word == "…" or name in (exported if is_variable else targets), word


def check_transcribe(words: list[str]) -> None:
    try:
        arguments(words)
    except SystemExit as leaving:  # argparse's way, of --help, too
        assert not leaving.code, words


def check_ssh(words: list[str]) -> None:
    """The remote command is checked if it is one of ours."""
    for command in simple(" ".join(words[1:])):
        if program(command) == "transcribe":
            check(command)


def check_aws(words: list[str]) -> None:
    """The operation and its options, by AWS's description; every command has those of the second line."""
    service, operation, *rest = words
    if service == "s3":  # its commands are the aws command's own, made of several operations
        options = {word for word in rest if word.startswith("--")}
        places = [word for word in rest if word.startswith("s3://")]
        assert operation in ("cp", "ls", "sync") and places and options <= {"--metadata", "--recursive"}
        return
    everywhere = {"query", "region", "output", "profile", "dry-run"}
    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    members = model.operation_model(names[operation]).input_shape.members
    known = {xform_name(name, "-") for name in members} | everywhere
    assert {word[2:] for word in rest if word.startswith("--")} <= known


def check_molecule(words: list[str]) -> None:
    assert words[0] in ("test", "converge", "verify", "login", "destroy")
    assert (ROOT / "molecule" / words[words.index("-s") + 1] / "molecule.yml").is_file()


def check_playbook(words: list[str]) -> None:
    play = yaml.safe_load((ROOT / words[-1]).read_text())[0]
    tags = words[words.index("--tags") + 1].split(",")
    assert set(tags) <= {role["tags"] for role in play["roles"]}
    assert all((ROOT / word[1:]).is_file() for word in words if word.startswith("@"))


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        module = ROOT / words[1].replace(".", "/")
        own = module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
        assert own or words[1] == "pytest", words
        words = words[1:] if own else words[2:]
    assert all((ROOT / word).exists() for word in words if "/" in word), words


def check_program(words: list[str]) -> None:
    """No check beyond the syntax, which Bash has parsed."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "transcribe": check_transcribe,
    "ssh": check_ssh,
    "aws": check_aws,
    "molecule": check_molecule,
    "ansible-playbook": check_playbook,
    "python": check_python,
    **dict.fromkeys(("cd", "git", "rm"), check_program),
}


def check(words: list[str]) -> None:
    """Fail if a command cannot work, or if there is no check for it."""
    name, arguments = program(words), bare(words)[1:]
    if "/" in name:
        assert (ROOT / name).stat().st_mode & 0o111, name
    else:
        assert name in CHECKS, f"no check for {name}"
        CHECKS[name](arguments)


@each_page
def test_commands_are_right(page: Path) -> None:
    for command in commands(page):
        try:
            check(command)
        except Exception as error:
            pytest.fail(f"{page.name}: {shlex.join(command)}: {error!r}")


# ---- figures and messages


MEASURED = [README, ROOT / "docs/design.md", ROOT / "docs/fleet.md"]


@pytest.mark.parametrize("page", MEASURED, ids=lambda page: page.name)
def test_figures_are_those_of_the_bench(page: Path) -> None:
    """Figures in the text, with a unit, match the benchmarks' output."""
    printed = set(re.findall(r"\d+(?:\.\d+)?", (ROOT / "bench/RESULTS.md").read_text()))
    figures = FIGURE.findall(prose(page))
    assert figures
    assert [f"{number} {unit}" for number, unit in figures if number not in printed] == []


def test_messages_are_those_of_the_code() -> None:
    text = " ".join(said())
    rows = re.findall(r"^\| (`.+?) \| ", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    messages = [message for row in rows for message in SPAN.findall(row)]
    assert messages
    unknown = [message for message in messages if not all(part in text for part in parts(message))]
    assert unknown == []


# Messages of other programs: OpenSSL, the operating system, torch, argparse.
OTHERS = re.compile("CERTIFICATE_VERIFY_FAILED|File name too long|CUDA out of memory|argument --language")


def parts(message: str) -> list[str]:
    """The constant parts of a message: between ellipses, numbers and values."""
    return [part.strip() for part in re.split(r"…|[\d.]+|[:;] |/build\b.*", OTHERS.sub("…", message))]


def said() -> Iterator[str]:
    """All string literals of the code that prints messages, with spaces in place of inserted values."""
    for pattern in ("ansible/**/*.py", "factory/**/*.py", "runtime/**/*.py", "tests/*.py"):
        for node in (node for path in ROOT.glob(pattern) for node in ast.walk(ast.parse(path.read_text()))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for path in [*ROOT.glob("ansible/**/*.yml"), *ROOT.glob("factory/*.sh")]:
        yield re.sub(r"\{\{.*?\}\}|\$\w+|\s+", " ", path.read_text())
