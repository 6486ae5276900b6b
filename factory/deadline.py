"""The dead-man's switch: a builder ends itself at a set time, whatever has become of the host that made it.

EC2 terminates the instance when it powers itself off (`shutdown_behavior` in packer/ami.pkr.hcl). The time is
absolute and a unit waits for it from each boot on, since the play reboots. The hygiene role removes the unit,
from the disk alone: the builder keeps it in memory, the AMI does not get it.
"""

from datetime import UTC, datetime

UNIT = "preheat-deadline.service"  # as the hygiene role lists it

# A boothook runs early in the boot, so that it does not matter whether anybody can ever log in. There
# `systemctl start` must not be waited for: the unit belongs to a later stage.
BOOTHOOK = """\
#cloud-boothook
#!/bin/sh
cat >/etc/systemd/system/{unit} <<'EOF'
[Unit]
Description=Dead-man's switch of make ami: power off at {date}
[Service]
ExecStart=/bin/sh -c 'left=$$(({seconds} - $$(date +%%s))); \\
  [ $$left -le 0 ] || sleep $$left; systemctl poweroff --force'
[Install]
WantedBy=multi-user.target
EOF
systemctl enable {unit}
systemctl start --no-block {unit}
"""


def boothook(deadline: datetime) -> str:
    """User data for cloud-init that arms the switch."""
    return BOOTHOOK.format(
        unit=UNIT, date=f"{deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S UTC}", seconds=int(deadline.timestamp())
    )
