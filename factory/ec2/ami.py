"""`make ami`: build the image as an AMI on EC2, and publish it in every region of the settings.

It can be run again at any time. The AMI's name contains a digest of its inputs, so that an AMI or a copy that
already exists is not made again; what an interrupted run has left behind is removed first.
"""

from pathlib import Path

from factory import inputs, packer
from factory.console import BUILD, LOGS, FactoryError, say
from factory.ec2 import images
from factory.ec2.aws import client, endpoint, explained
from factory.ec2.builder import make_security_group, noted, remove_all_noted
from factory.ec2.notes import Run
from factory.ec2.preflight import Plan, check
from factory.ec2.proof import prove
from factory.ec2.publish import publish
from factory.ec2.rehearsal import rehearse
from factory.ec2.report import Report
from factory.ec2.settings import Settings, read_settings
from factory.ec2.startup import user_data
from factory.workspace import workspace

LOG = LOGS / "ami.log"
RECORDS = BUILD / "ami"  # a manifest and an image.json for each AMI, by its name


def ami() -> None:
    """Make an AMI on EC2, copy and share it; run again after an interruption, it goes on."""
    settings = read_settings()
    report = Report()
    with workspace("ami") as folder:
        for run in remove_all_noted(folder):
            say(f"these credentials are not for account {run.account}; {run.id} is left unchanged")
        with report.step("checks", settings.region) as line:
            plan = check(settings)
            line.result = plan.name
        record = file_of(plan, "image")
        try:
            if is_there(plan, settings):
                say(f"{plan.name} already exists, made from the same inputs")
            else:
                rehearse(plan, settings)
                with noted(plan, settings.region, folder) as run:
                    build(run, plan, settings, report)
            if settings.verify:
                prove(plan, settings, folder, record, report)
            publish(plan.name, settings, record, report)
        finally:
            print(report.table())


def is_there(plan: Plan, settings: Settings) -> bool:
    """Whether the AMI was built before; FactoryError if another one has taken its name."""
    with explained():
        image = images.usable(client("ec2", settings.region), plan.name)
    if image and images.tags(image).get("preheat:inputs") != plan.inputs:
        raise FactoryError(
            f"{image['ImageId']} has the name {plan.name} but was not made by `make ami`",
            "Deregister it, or set another name_prefix",
        )
    return image is not None


def build(run: Run, plan: Plan, settings: Settings, report: Report) -> None:
    """Build the AMI on the first candidate with capacity; FactoryError if none has, or the build fails."""
    file_of(plan, "manifest").unlink(missing_ok=True)  # Packer would append to it
    for instance_type, subnet in plan.candidates:
        with report.step(f"build on {instance_type}", subnet) as line:
            try:
                with explained():
                    group = make_security_group(run, settings, subnet)
                values = variables(run, plan, instance_type, subnet, group)
                values["startup_file"] = str(startup_file(plan, settings))
                packer.build("amazon-ebs.ami", values, LOG, settings.path)
            except packer.NoCapacityError:
                line.result = "no capacity"
                continue
            line.result = plan.name
        return
    tried = ", ".join(f"{instance_type} in {subnet}" for instance_type, subnet in plan.candidates)
    raise FactoryError(
        f"EC2 has no capacity for any of: {tried}",
        "Try again later, or set more instance_types, subnets in more zones, or another region",
    )


def file_of(plan: Plan, kind: str) -> Path:
    """The local file on an AMI: `image` for image.json, `manifest` for Packer's, `facts` for the play's."""
    return RECORDS / f"{plan.name}.{kind}.json"


def startup_file(plan: Plan, settings: Settings) -> Path:
    """Write the user data for this attempt's builder to a file, and return its path."""
    file = RECORDS / f"{plan.name}.user-data"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(user_data(settings))
    return file


def variables(run: Run, plan: Plan, instance_type: str, subnet: str, group: str) -> dict[str, str | int]:
    """Packer's variables for one attempt."""
    facts = {
        "image_source_id": plan.source["ImageId"],
        "image_source_name": plan.source["Name"],
        # This host's proxy can rarely be reached from the instance's network.
        "image_ca_bundle": "",
        "image_proxies": {},
        "image_record": str(file_of(plan, "image")),
    }
    return {
        **inputs.variables(facts, file_of(plan, "facts")),
        "manifest": str(file_of(plan, "manifest")),
        "source_ami": plan.source["ImageId"],
        "source_ami_owner": plan.source["OwnerId"],
        "root_device": plan.source["RootDeviceName"],
        "instance_type": instance_type,
        "subnet_id": subnet,
        "security_group_id": group,
        "ami_name": plan.name,
        "inputs": plan.inputs,
        "run": run.id,
        "ec2_endpoint": endpoint(),
    }
