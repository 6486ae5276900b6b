"""Make a stand-in for NVIDIA's apt repository: flat, signed, with several versions of the driver's packages.

    python3 repository.py FOLDER

It prints the fingerprint of the key. The packages have the names and dependencies of NVIDIA's. Dependencies
use `>=`, so that apt installs a newer version if nothing prevents it. Their contents are stand-ins, too:

    nvidia-kernel-open-dkms    "builds" a module, an ELF file with a version, for each kernel with headers
    nvidia-smi                 answers for one GPU if a module is "loaded", as the stand-in for modprobe does
    nvidia-persistenced        a unit that only waits
"""

import hashlib
import os
import struct
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

FOLDER = Path(sys.argv[1])
VERSIONS = ("570.133.20", "580.178.04", "590.48.01", "595.99.99")
BROKEN = "595.99.99"  # its module cannot be built
LOADED = "/run/standin-driver"  # holds the version of the module that is "loaded"

POSTINST = """\
#!/bin/sh -e
mkdir -p /var/lib/dkms
touch /var/lib/dkms/mok.key /var/lib/dkms/mok.pub
test {version} != {broken} || {{ echo "Bad return status for module build" >&2; exit 10; }}
for build in /lib/modules/*/build; do
  kernel=$(basename "$(dirname "$build")")
  install -D -m 644 /usr/src/nvidia-{version}/nvidia.ko "/lib/modules/$kernel/updates/dkms/nvidia.ko"
  depmod "$kernel"
done
"""
SMI = f"""\
#!/bin/sh
[ "$*" = "--query-gpu=name,driver_version --format=csv,noheader" ] || exit 2
if test ! -e {LOADED} || test -e /run/no-gpu; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
  exit 9
fi
echo "NVIDIA Stand-in, $(cat {LOADED})"
"""
UNIT = """\
[Unit]
Description=NVIDIA Persistence Daemon
[Service]
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


def module(version: str) -> bytes:
    """A kernel module, as far as modinfo and depmod read it: ELF, with a version."""
    names = b"\0.modinfo\0.symtab\0.strtab\0"
    parts = [
        # offset of the name, type (1: data, 2: symbols, 3: strings), contents, link, size of an entry
        (1, 1, b"license=Dual MIT/GPL\0version=" + version.encode() + b"\0", 0, 0),
        (10, 2, bytes(24), 3, 24),
        (18, 3, names, 0, 0),
    ]
    contents, headers, offset = b"", bytes(64), 64
    for name, kind, data, link, entry in parts:
        headers += struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, len(data), link, 1, 1, entry)
        contents += data
        offset += len(data)
    start = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64-bit, little-endian
    # relocatable, x86-64; four section headers, the last for the section names
    start += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, offset, 0, 64, 0, 0, 64, 4, 3)
    return start + contents + headers


def packages(version: str) -> dict[str, dict[str, str | bytes]]:
    """The driver of one version: names, with dependencies and files."""
    own = f"(>= {version})"
    return {
        "nvidia-driver-cuda": {"Depends": f"libcuda1 {own}, nvidia-smi {own}, libnvidia-egl-gbm1"},
        "libcuda1": {"Depends": f"libnvidia-ptxjitcompiler1 {own}"},
        "libnvidia-ptxjitcompiler1": {},
        "nvidia-smi": {"Depends": f"libcuda1 {own}", "/usr/bin/nvidia-smi": SMI},
        "nvidia-modprobe": {},
        "nvidia-persistenced": {"/lib/systemd/system/nvidia-persistenced.service": UNIT},
        "nvidia-kernel-support": {"Depends": "nvidia-installer-cleanup"},  # a package in Debian's contrib
        "nvidia-kernel-open-dkms": {
            "Depends": f"nvidia-kernel-support {own}",
            "Recommends": "linux-headers-amd64",  # like dkms; would install the headers of another kernel
            "/DEBIAN/postinst": POSTINST.format(version=version, broken=BROKEN),
            f"/usr/src/nvidia-{version}/nvidia.ko": module(version),
        },
    }


def build(name: str, version: str, contents: dict[str, str | bytes]) -> None:
    """Make one package."""
    with tempfile.TemporaryDirectory() as scratch:
        fields = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "No <no@body>"}
        fields |= {key: str(value) for key, value in contents.items() if not key.startswith("/")}
        files = {key: value for key, value in contents.items() if key.startswith("/")}
        control = "".join(f"{key}: {value}\n" for key, value in fields.items()) + "Description: stand-in\n"
        for path, content in {"/DEBIAN/control": control, **files}.items():
            file = Path(scratch + path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            file.chmod(0o755 if "/bin/" in path or path.endswith("inst") else 0o644)
        Path(scratch).chmod(0o755)
        run("dpkg-deb", "--root-owner-group", "-Znone", "--build", scratch, str(FOLDER))


def run(*command: str) -> str:
    """Run a command and return its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_index() -> None:
    """Write Packages, and Release with its hash, which is to be signed."""
    listed = []
    for deb in sorted(FOLDER.glob("*.deb")):
        data = deb.read_bytes()
        fields = run("dpkg-deb", "--field", str(deb))
        listed.append(
            f"{fields}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
    index = "\n".join(listed).encode()
    (FOLDER / "Packages").write_bytes(index)
    (FOLDER / "Release").write_text(
        f"Origin: NVIDIA\nLabel: stand-in\nDate: {formatdate(usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
    )


def sign() -> str:
    """Sign Release with a new key; its fingerprint. Also write a file with two keys, to be refused."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["GNUPGHOME"] = home
        gpg = ["gpg", "--batch", "--quiet", "--passphrase", ""]
        for name in ("repository", "intruder"):
            run(*gpg, "--quick-generate-key", name, "ed25519", "sign", "never")
        run(*gpg, "--local-user", "repository", "--output", str(FOLDER / "InRelease"), "--clear-sign",
            str(FOLDER / "Release"))  # fmt: skip
        (FOLDER / "key.pub").write_text(run(*gpg, "--armor", "--export", "repository"))
        (FOLDER / "both.pub").write_text(run(*gpg, "--armor", "--export"))
        listing = run(*gpg, "--with-colons", "--list-keys", "repository")
        run("gpgconf", "--kill", "all")
    return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))


FOLDER.mkdir(parents=True)
for number in VERSIONS:
    for package, inside in packages(number).items():
        build(package, f"{number}-1", inside)
build("libnvidia-egl-gbm1", "1.1.2-1", {})  # also NVIDIA's, but not versioned with the driver
write_index()
print(sign())
