"""Prepare a machine that has torch but no network: wheels, and the tokens of the random models.

    bench/gpu.sh --prepare

puts them into build/gpu. The machine must have, for Python 3.12, torch, transformers, tokenizers, numpy,
onnxruntime, safetensors, pytest and hypothesis. The wheels have the versions and hashes of the project's
lock. PyAV is left out: only recordings other than wav and flac need it, and it is larger than all the rest.
"""

import re
import subprocess
import sys

from bench.harness import ROOT

HOME = ROOT / "build" / "gpu"
WORDS = HOME / "vocabulary.json"
WHEELS = HOME / "wheels"
PACKAGES = ["cffi", "pycparser", "silero-vad", "soundfile", "soxr", "xxhash"]
GLIBC = (17, 24, 27, 28)  # wheels for these versions 2.N of glibc, older than that of any machine
MOST = 40_000_000  # bytes in build/gpu


def main() -> None:
    """Fetch and write all of it."""
    from bench.words import Words  # noqa: PLC0415  imports transformers, which takes seconds

    HOME.mkdir(parents=True, exist_ok=True)
    Words.make().save(WORDS)
    WHEELS.mkdir(exist_ok=True)
    for wheel in WHEELS.glob("*.whl"):
        wheel.unlink()
    wanted = HOME / "requirements.txt"
    wanted.write_text(locked((ROOT / "requirements.txt").read_text()))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
    command += [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC]
    command += ["--platform=manylinux2014_x86_64", "--dest", str(WHEELS), "--requirement", str(wanted)]
    subprocess.run(command, check=True)
    size = sum(path.stat().st_size for path in HOME.rglob("*") if path.is_file())
    if size > MOST:
        sys.exit(f"bench: {HOME.relative_to(ROOT)} has {size:,} bytes, more than {MOST:,}")
    print(f"{HOME.relative_to(ROOT)}: {size / 1e6:.1f} MB to take along")


def locked(lock: str) -> str:
    """The entries of PACKAGES in a lock file, with their hashes."""
    entries = re.findall(r"^([\w.-]+)(==\S+(?: \\\n +--hash=\S+)+)", lock, flags=re.MULTILINE)
    found = {name: name + rest for name, rest in entries if name in PACKAGES}
    if missing := set(PACKAGES).difference(found):
        raise SystemExit(f"bench: {min(missing)} is not in requirements.txt")
    return "\n".join(found.values()) + "\n"
