"""The time from boot to login, with cloud-init as the image limits it and as Debian configures it.

    .venv/bin/python -m bench.boot.lean [--boots 5]

boots the finished image (make image) under systemd-nspawn, alternately with and without the role base's
configuration of cloud-init, and asks systemd when sshd was up and when cloud-init had ended, in seconds since
init started. Prints medians, and writes build/bench/boot-lean.json and systemd's own plot of the last boot of
each kind. Needs root.
"""

import argparse
from contextlib import ExitStack
from typing import Any

from bench.harness import RESULTS, describe, machine, median, save, table
from factory.local.basedisk import ROOT_OFFSET
from factory.local.image import ARTIFACT
from factory.local.machine import overlaid, running
from factory.local.mounts import mounted
from factory.workspace import workspace

SETTINGS = "etc/cloud/cloud.cfg.d/95-preheat.cfg"
ASK = (
    "systemctl show --property=UserspaceTimestampMonotonic --value; "
    "systemctl show --property=ActiveEnterTimestampMonotonic --value ssh.service cloud-final.service"
)


def boot(*, limited: bool) -> dict[str, Any]:
    """Boot the image for the first time, on an overlay that is discarded."""
    with ExitStack() as stack:
        folder = stack.enter_context(workspace("bench-lean"))
        disk = stack.enter_context(mounted(ARTIFACT.raw, folder / "disk", ROOT_OFFSET, read_only=True))
        root = stack.enter_context(overlaid(disk, folder))
        if not limited:
            (root / SETTINGS).unlink()
        found = stack.enter_context(running(root, folder, "bench-lean"))
        found.run("cloud-init status --wait")
        begun, *at = (int(word) / 1e6 for word in found.run(ASK).split())
        ssh, ended = (moment - begun for moment in at)
        RESULTS.mkdir(parents=True, exist_ok=True)
        name = "limited" if limited else "debian"
        (RESULTS / f"boot-{name}.svg").write_text(found.run("systemd-analyze plot"))
        return {"limited": limited, "ssh_s": ssh, "ended_s": ended}


def main() -> None:
    """Boot in turn and print the table."""
    parser = argparse.ArgumentParser(description="What cloud-init adds to a boot.")
    parser.add_argument("--boots", type=int, default=5, help="of each kind (default %(default)s)")
    boots = parser.parse_args().boots
    host = machine(ARTIFACT.raw.parent)
    boot(limited=True)  # warms the page cache for both
    runs = [boot(limited=limited) for _ in range(boots) for limited in (False, True)]
    rows = []
    for limited, name in ((False, "Debian's"), (True, "limited")):
        own = [run for run in runs if run["limited"] == limited]
        rows.append([name, f"{median(own, 'ssh_s'):.2f} s", f"{median(own, 'ended_s'):.2f} s"])
    print(describe(host))
    print(f"init to …; page cache warm; medians of {boots}")
    print(table(("cloud-init", "sshd is up", "cloud-init has ended"), rows, left=1))
    save("boot-lean", {"machine": host, "runs": runs})


if __name__ == "__main__":
    main()
