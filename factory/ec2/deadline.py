"""The dead-man's switch: an instance ends itself at a set time, whatever has become of the host that made it.

EC2 terminates the instance when it powers itself off (`shutdown_behavior` in packer/ami.pkr.hcl). The time is
absolute and a unit waits for it from each boot on, since the play reboots. The hygiene role removes the
builder's unit, from the disk alone: the builder keeps it in memory, the AMI does not get it.
"""

from datetime import UTC, datetime

UNIT = "preheat-deadline.service"  # as the hygiene role lists it
# An AMI that is tried has not gone through the hygiene role afterwards; the tests look for UNIT on it.
PROOF_UNIT = "preheat-proof.service"

# A boothook runs early in the boot, so that it does not matter whether anybody can ever log in. There
# `systemctl start` must not be waited for: the unit belongs to a later stage.
BOOTHOOK = """\
#cloud-boothook
#!/bin/sh
cat >{folder}/{unit} <<'EOF'
[Unit]
Description=Dead-man's switch of make ami: power off at {date}
[Service]
ExecStart=/bin/sh -c 'left=$$(({seconds} - $$(date +%%s))); \\
  [ $$left -le 0 ] || sleep $$left; systemctl poweroff --force'
[Install]
WantedBy=multi-user.target
EOF
systemctl start --no-block {unit}
"""
ENABLE = f"systemctl enable {UNIT}\n"  # at later boots it is armed without cloud-init, too


def boothook(deadline: datetime) -> str:
    """User data for cloud-init that arms a builder's switch."""
    return armed(deadline, "/etc/systemd/system", UNIT) + ENABLE


def passing(deadline: datetime) -> str:
    """User data that arms an instance's switch and writes nothing to its disk: each boot arms it anew."""
    return armed(deadline, "/run/systemd/system", PROOF_UNIT)


def armed(deadline: datetime, folder: str, unit: str) -> str:
    """User data with the unit in a folder, and its start."""
    date = f"{deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S UTC}"
    return BOOTHOOK.format(folder=folder, unit=unit, date=date, seconds=int(deadline.timestamp()))
