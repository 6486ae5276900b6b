"""The base system, as a tar and as a bootable disk: Debian 12 like EC2's image, before any role runs.

The role tests' containers are made from the same tar, so roles are tested on the system they ship on.
"""

import hashlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from factory.console import BUILD, LOGS, run, say
from factory.local.mounts import mounted
from factory.workspace import MARK, SCRATCH

PACKAGES = [
    # to boot: kernel for virtual machines, initial RAM disk, init
    *("linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "udev", "kmod", "dbus"),
    *("systemd-resolved", "systemd-timesyncd"),
    # ssh and first-boot configuration: cloud-init grows the root partition with cloud-guest-utils
    *("cloud-init", "cloud-guest-utils", "openssh-server", "sudo", "iproute2", "netbase", "procps"),
    # for Ansible
    *("ca-certificates", "python3", "python3-apt"),
]

# cloud-init as Debian's EC2 image sets it up: the user is `admin`, and /etc/hosts names the machine.
CLOUD_CONFIG = """\
system_info: {default_user: {name: admin, lock_passwd: true, shell: /bin/bash,
  groups: [adm, sudo], sudo: ["ALL=(ALL) NOPASSWD:ALL"]}}
locale: C.UTF-8
manage_etc_hosts: true
"""

FILES = {
    "etc/cloud/cloud.cfg.d/10_preheat.cfg": CLOUD_CONFIG,
    # The same as in cloud.cfg, so that cloud-init has nothing to change; to change it, it would need locales.
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/fstab": "LABEL=root / ext4 errors=remount-ro 0 1\n",
    "etc/hostname": "preheat\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 preheat\n::1 localhost ip6-localhost ip6-loopback\n",
}

# The loader reads the kernel through the links that Debian keeps pointing at the newest one, so a kernel
# upgrade needs no change of the loader.
GRUB_CONFIG = """\
search --no-floppy --label root --set root
linux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200 panic=30
initrd /initrd.img
boot
"""

MIB = 1 << 20
DISK_MIB = 16 * 1024  # sparse; the venv takes 5.3 GB, large-v3 with its state file 6.2 GB
ESP_MIB = 16  # the loader takes 6 MiB
ROOT_OFFSET = (1 + ESP_MIB) * MIB
CACHE = BUILD / "cache"
FRESH_SECONDS = 7 * 24 * 3600  # an older tar is made again, for Debian's security updates


def rootfs() -> Path:
    """Path of the base system's tar, made by mmdebstrap unless a recent one from the same recipe is cached.

    Must be called in a workspace, which holds its temporary files.
    """
    recipe = repr((PACKAGES, FILES)).encode()
    tar = CACHE / f"rootfs-{hashlib.sha256(recipe).hexdigest()[:12]}.tar"
    if tar.exists() and time.time() - tar.stat().st_mtime < FRESH_SECONDS:
        return tar
    say("base system: mmdebstrap, about half a minute")
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob("rootfs-*"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=Path(os.environ[MARK], SCRATCH)) as scratch:
        Path(scratch).chmod(0o755)  # apt downloads as the user _apt
        hooks = []
        for name, text in FILES.items():
            source = Path(scratch) / Path(name).name
            source.write_text(text)
            hooks += ["--customize-hook=upload " + f"{source} /{name}"]
        # Without a mirror, mmdebstrap uses Debian's own, with the security and updates suites.
        run(
            # In its own mount namespace, which takes /proc, /sys and other mounts with it, however it ends.
            "unshare", "--mount", "--propagation=private", "env", f"TMPDIR={scratch}",
            "mmdebstrap", "--format=tar", "--variant=minbase", f"--include={','.join(PACKAGES)}", *hooks,
            # The package systemd-resolved keeps the build host's resolv.conf as a backup.
            '--customize-hook=rm -f "$1"/etc/.resolv.conf.*',
            '--customize-hook=ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"',
            "--customize-hook=systemctl --root=$1 enable systemd-networkd",
            "bookworm", Path(scratch) / tar.name,
            log=LOGS / "mmdebstrap.log",
        )  # fmt: skip
        (Path(scratch) / tar.name).rename(tar)
    return tar


def make_base_disk(disk: Path, folder: Path) -> None:
    """Write a bootable disk image: GPT, an EFI system partition with GRUB, the base system on ext4.

    It is mounted in `folder`, a workspace, so that the next run unmounts it if this one is killed.
    """
    tar = rootfs()
    say(f"base disk: {DISK_MIB // 1024} GiB, sparse")
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
    layout = f"label: gpt\nstart=1MiB, size={ESP_MIB}MiB, type=uefi\nstart={1 + ESP_MIB}MiB, type=linux\n"
    subprocess.run(["sfdisk", "--quiet", str(disk)], input=layout, text=True, check=True)
    with tempfile.TemporaryDirectory(dir=folder / SCRATCH) as scratch:
        esp = make_esp(Path(scratch))
        run("dd", f"if={esp}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc", "status=none")
        # The last MiB is for the backup partition table.
        root_kib = (DISK_MIB - ESP_MIB - 2) * 1024
        run(
            "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "1", "-b", "4096",
            "-E", f"offset={ROOT_OFFSET}", disk, f"{root_kib}k",
        )  # fmt: skip
        with mounted(disk, Path(scratch) / "root", ROOT_OFFSET) as root:
            run("tar", "--extract", "--file", tar, "--directory", root, "--xattrs", "--xattrs-include=*",
                "--numeric-owner")  # fmt: skip


def make_esp(scratch: Path) -> Path:
    """A FAT file system with one file, where firmware looks for it: GRUB with its configuration embedded."""
    (scratch / "grub.cfg").write_text(GRUB_CONFIG)
    run(
        "grub-mkstandalone", "--format=x86_64-efi", f"--output={scratch / 'BOOTX64.EFI'}",
        "--modules=part_gpt ext2", "--locales=", "--fonts=", "--themes=",
        f"boot/grub/grub.cfg={scratch / 'grub.cfg'}",
    )  # fmt: skip
    esp = scratch / "esp.img"
    with esp.open("wb") as file:
        file.truncate(ESP_MIB * MIB)
    run("mkfs.vfat", "-n", "ESP", esp)
    run("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", esp, scratch / "BOOTX64.EFI", "::/EFI/BOOT/BOOTX64.EFI")
    return esp
