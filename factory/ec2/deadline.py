"""The dead-man's switch: an instance powers off at a set time, even if the host that launched it is gone.

EC2 terminates the instance when it powers off (`shutdown_behavior` in packer/ami.pkr.hcl). The time is
absolute, and a unit waits for it after every boot, because the play reboots. The role hygiene removes the
builder's unit from the disk only: it stays active on the builder, and the AMI does not contain it.
"""

from datetime import UTC, datetime

UNIT = "preheat-deadline.service"  # the role hygiene lists this name
# Another name for the proof: the role hygiene does not run after it, and the tests require that UNIT is gone.
PROOF_UNIT = "preheat-proof.service"

# A boothook runs early in the boot, so that the switch works even if no login ever succeeds. It must not wait
# for `systemctl start` (hence --no-block), because the unit belongs to a later stage of the boot.
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
ENABLE = f"systemctl enable {UNIT}\n"  # so that later boots arm it without cloud-init


def boothook(deadline: datetime) -> str:
    """User data for cloud-init that arms a builder's switch."""
    return armed(deadline, "/etc/systemd/system", UNIT) + ENABLE


def transient_boothook(deadline: datetime) -> str:
    """User data that arms an instance's switch, at each boot, without writing to its disk."""
    return armed(deadline, "/run/systemd/system", PROOF_UNIT)


def armed(deadline: datetime, folder: str, unit: str) -> str:
    """User data that writes the unit to a folder and starts it."""
    date = f"{deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S UTC}"
    return BOOTHOOK.format(folder=folder, unit=unit, date=date, seconds=int(deadline.timestamp()))
