"""Builds that fail on the way: each says why, leaves nothing behind, and the next run goes on."""

import signal
import subprocess
from base64 import b64decode
from collections.abc import Callable

import pytest

from factory import packer
from factory.console import BUILD
from tests.ami.cloud import ABROAD, HOME, Refusal, Request
from tests.ami.command import Command, instance

MODERN = packer.version(packer.packer()) >= packer.PLUGIN_BLOCKS_SINCE


def test_a_failing_role_is_named(command: Command) -> None:
    command.bake = {"model_sha256": "0" * 64}
    with instance(command):
        code, printed = command.run()
    assert code == 1
    assert "Get the checkpoint again, or correct model_sha256" in printed.partition("error: ")[2]
    assert str(BUILD / "logs/ami.log") in printed
    assert command.cloud.leftovers() == []
    assert command.cloud.own_amis() == []


def no_capacity(places: int) -> Callable[[Request], Refusal | None]:
    """EC2 without capacity for the first `places` requests."""
    asked: list[tuple[str, str]] = []

    def refuse(request: Request) -> Refusal | None:
        subnet = next(value for value in request.parameters.values() if value.startswith("subnet-"))
        place = (request.parameters["InstanceType"], subnet)
        if place not in asked:
            asked.append(place)
        return Refusal("InsufficientInstanceCapacity", status=500) if len(asked) <= places else None

    return refuse


def test_without_capacity_the_next_place_is_tried(quick: Command) -> None:
    quick.cloud.before["ec2:RunInstances"] = no_capacity(2)
    code, printed = quick.run()
    assert code == 0, printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("build on")]
    assert [row[4:6] for row in rows[:2]] == [["no", "capacity"]] * 2
    assert len(rows) == 3
    assert len({row[3] for row in rows}) == 3, "three subnets, each in a zone of its own"
    assert quick.cloud.leftovers() == []


NO_SPOT = """
<CreateFleetResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <fleetId>fleet-1</fleetId>
  <errorSet><item>
    <errorCode>UnfulfillableCapacity</errorCode>
    <errorMessage>There is no Spot capacity available that matches your request.</errorMessage>
    <lifecycle>spot</lifecycle>
  </item></errorSet>
  <fleetInstanceSet/>
</CreateFleetResponse>
""".strip()


def test_without_spot_capacity_the_next_place_is_tried(quick: Command) -> None:
    quick.choices["spot"] = True
    quick.cloud.before["ec2:CreateFleet"] = lambda _: (
        NO_SPOT if len(quick.cloud.calls("ec2:CreateFleet")) < 2 else None
    )
    code, printed = quick.run()
    assert code == 0, printed
    assert printed.count("no capacity") == 2
    assert quick.cloud.leftovers() == []


def test_without_any_capacity_it_says_what_was_tried(quick: Command) -> None:
    quick.choices["instance_types"] = ["g6.xlarge"]
    quick.cloud.before["ec2:RunInstances"] = no_capacity(1000)
    code, printed = quick.run()
    assert code == 1
    assert "EC2 has no capacity for any of: g6.xlarge in subnet-" in printed
    assert quick.cloud.leftovers() == []


def test_a_copy_that_fails_is_made_by_the_next_run(quick: Command) -> None:
    quick.cloud.before["ec2:CopyImage"] = lambda _: Refusal("ResourceLimitExceeded", "too many copies")
    code, printed = quick.run()
    assert code == 1
    assert (
        f"not finished in {ABROAD}: AWS refused CopyImage (ResourceLimitExceeded): too many copies" in printed
    )
    (ami,) = quick.cloud.own_amis()
    parameter = quick.cloud.client("ssm").get_parameter(Name="/preheat/ami")["Parameter"]
    assert parameter["Value"] == ami["ImageId"], "the region of the build is finished"

    del quick.cloud.before["ec2:CopyImage"]
    quick.cloud.requests.clear()
    code, printed = quick.run()
    assert code == 0, printed
    assert not quick.cloud.calls("ec2:RunInstances")
    (copy,) = quick.cloud.own_amis(ABROAD)
    parameter = quick.cloud.client("ssm", ABROAD).get_parameter(Name="/preheat/ami")["Parameter"]
    assert parameter["Value"] == copy["ImageId"]


@pytest.mark.parametrize("region", [HOME, ABROAD])
def test_an_ami_that_has_failed_is_made_anew(quick: Command, region: str) -> None:
    """An AMI may fail later on AWS's side, after `make ami` has started its creation."""
    assert quick.run()[0] == 0
    (broken,) = quick.cloud.own_amis(region)
    quick.cloud.set_state("failed", region)
    code, printed = quick.run()
    assert code == 0, printed
    assert f"remove {broken['ImageId']}, which has failed" in printed
    (made,) = quick.cloud.own_amis(region)
    parameter = quick.cloud.client("ssm", region).get_parameter(Name="/preheat/ami")["Parameter"]
    assert parameter["Value"] == made["ImageId"] != broken["ImageId"]


def test_a_copy_that_fails_while_it_is_waited_for(quick: Command) -> None:
    def fail(request: Request) -> None:
        if request.region == ABROAD and "ImageId.1" in request.parameters:
            quick.cloud.set_state("failed", ABROAD)

    quick.cloud.after["ec2:CopyImage"] = lambda _: quick.cloud.set_state("pending", ABROAD)
    quick.cloud.before["ec2:DescribeImages"] = fail
    code, printed = quick.run()
    assert code == 1
    assert f"not finished in {ABROAD}: the AMI preheat-" in printed
    assert "is failed\n  Run it again to make a new one" in printed


def test_credentials_that_expire_during_the_build(quick: Command) -> None:
    """Then nothing can be removed; the next run does it."""

    def expire(_request: Request) -> Refusal:
        for action in ("DescribeInstances", "TerminateInstances", "DescribeVolumes", "DeleteKeyPair"):
            quick.cloud.before[f"ec2:{action}"] = lambda _: Refusal("RequestExpired", "Request has expired.")
        return Refusal("RequestExpired", "Request has expired.")

    quick.cloud.before["ec2:StopInstances"] = expire
    code, printed = quick.run()
    assert code == 1
    assert "RequestExpired" in printed.partition("error: ")[2]
    assert "the next make ami will do it: the AWS credentials have expired" in printed

    quick.cloud.before.clear()
    assert quick.cloud.leftovers()
    code, printed = quick.run()
    assert code == 0, printed
    assert "remove the instance i-" in printed
    assert quick.cloud.leftovers() == []


def test_credentials_that_expire_on_the_way(quick: Command) -> None:
    quick.cloud.before["ec2:CreateTags"] = lambda r: Refusal("RequestExpired") if r.region == ABROAD else None
    code, printed = quick.run()
    assert code == 1
    assert f"not finished in {ABROAD}: the AWS credentials have expired" in printed
    assert "Sign in" in printed
    quick.cloud.before.clear()
    assert quick.run()[0] == 0


@pytest.mark.parametrize(
    "stage",
    [
        "ec2:CreateSecurityGroup",
        "ec2:CreateKeyPair",
        "ec2:RunInstances",
        "the play",
        "ec2:StopInstances",
        "ec2:CreateImage",
        "ec2:CopyImage",
    ],
)
def test_an_interruption_leaves_nothing(quick: Command, stage: str) -> None:
    """Ctrl-C at each stage."""
    process = quick.start()
    interrupted = [False]

    def interrupt(_request: Request) -> None:
        if not interrupted[0]:
            interrupted[0] = True
            quick.cloud.set_state("pending")
            process.send_signal(signal.SIGINT)

    if stage == "the play":
        wait_for_play(process)
        process.send_signal(signal.SIGINT)
    else:
        quick.cloud.after[stage] = interrupt
    printed, _ = process.communicate()
    assert process.returncode == 130, printed
    assert quick.cloud.leftovers() == []
    if stage != "ec2:CopyImage":
        assert quick.cloud.own_amis() == []


def test_a_terminal_that_goes_away_leaves_nothing(quick: Command) -> None:
    process = quick.start()
    wait_for_play(process)
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait() != 0
    assert quick.cloud.leftovers() == []


def test_after_the_play_nobody_has_to_get_in(quick: Command) -> None:
    """For instance after a reboot by the play: the connection is gone, and so is Packer's key, by hygiene."""
    (quick.project / "ansible/image.yml").write_text(CUT_OFF)
    code, printed = quick.run()
    assert code == 0, printed


CUT_OFF = r"""
- name: Let nobody in any more
  hosts: all
  gather_facts: false
  tasks:
    - name: Remove the key and end the logins, but for this one
      ansible.builtin.shell: |
        sed -i '/ preheat-/d' ~/.ssh/authorized_keys
        mine="" pid=$$
        while [ "$pid" -gt 1 ]; do
          mine="$mine $pid "
          pid=$(ps -o ppid= -p "$pid" | tr -d ' ')
        done
        for pid in $(pgrep -u admin sshd); do
          case $mine in *" $pid "*) ;; *) kill "$pid" ;; esac
        done
      args:
        executable: /bin/bash
"""


def test_a_builder_in_a_private_network(quick: Command) -> None:
    """Not a failure, but a company's settings: no public address, a profile, user data, a pinned source."""
    quick.cloud.client("iam").create_instance_profile(InstanceProfileName="builder")
    passed = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    role = "arn:aws:iam::*:role/builder"
    quick.cloud.granted.append(
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role, "Condition": passed}
    )
    (quick.folder / "proxy").write_text("#cloud-config\nwrite_files: []\n")
    quick.choices |= {
        "ssh_interface": "private_ip",
        "iam_instance_profile": "builder",
        "user_data_file": str(quick.folder / "proxy"),
        "source_ami": "ami-0deb1a00000000012",
    }
    code, printed = quick.run()
    assert code == 0, printed
    (launched,) = [request.parameters for request in quick.cloud.calls("ec2:RunInstances")]
    public = launched.get("NetworkInterface.1.AssociatePublicIpAddress")
    assert public == ("false" if MODERN else None)  # an old Packer leaves it to the subnet
    assert launched["IamInstanceProfile.Name"] == "builder"
    assert "#cloud-config\nwrite_files" in b64decode(launched["UserData"]).decode()
    asked = [request.parameters for request in quick.cloud.calls("ec2:DescribeImages")]
    hidden = [
        a for a in asked if "ami-0deb1a00000000012" in a.values() and a.get("IncludeDeprecated") != "true"
    ]
    assert len(hidden) == (0 if MODERN else 1), "an old Packer cannot ask for it"


def test_an_ami_of_the_same_name_by_another_host_is_left_alone(quick: Command) -> None:
    """The other host was faster by a minute."""

    def overtake(request: Request) -> Refusal:
        ec2, name = quick.cloud.client("ec2"), request.parameters["Name"]
        made = ec2.copy_image(Name=name, SourceImageId="ami-0deb1a00000000012", SourceRegion=HOME)["ImageId"]
        ec2.create_tags(Resources=[made], Tags=[{"Key": "preheat:run", "Value": "preheat-other"}])
        return Refusal("InvalidAMIName.Duplicate")

    quick.cloud.before["ec2:CreateImage"] = overtake
    code, printed = quick.run()
    assert code == 1
    assert "InvalidAMIName.Duplicate" in printed
    assert len(quick.cloud.own_amis()) == 1
    assert quick.cloud.leftovers() == []


def wait_for_play(process: subprocess.Popen[str]) -> None:
    """Wait until the play runs on the instance, reading the output until then."""
    assert process.stdout is not None
    assert any("The play has begun" in line for line in process.stdout)


def kill_session(leader: int) -> None:
    """Kill a Packer and its plugins."""
    subprocess.run(["pkill", "-KILL", "--session", str(leader), "packer"], check=True)


@pytest.mark.parametrize("action", ["ec2:RunInstances", "ec2:CreateImage"])
def test_a_killed_packer_leaves_nothing(quick: Command, action: str) -> None:
    def kill(_request: Request) -> None:
        quick.cloud.set_state("pending")
        kill_session(quick.packer())

    quick.cloud.after[action] = kill
    code, printed = quick.run()
    assert code == 1
    assert "the build failed (packer's exit code -9)" in printed
    assert quick.cloud.leftovers() == []
    assert quick.cloud.own_amis() == []


def test_the_next_run_removes_what_a_killed_one_left(quick: Command) -> None:
    process = quick.start()
    wait_for_play(process)
    packer = quick.packer()
    process.kill()
    process.communicate()
    kill_session(packer)
    assert quick.cloud.leftovers()
    code, printed = quick.run()
    assert code == 0, printed
    assert "remove the instance i-" in printed
    assert quick.cloud.leftovers() == []
