"""Instance types that the image cannot be built on, found before one costs money."""

from typing import Any

import yaml

from factory.console import ROOT, FactoryError
from factory.model import model_file, read_variables

NAMES = ROOT / "ansible/roles/nvidia/vars/Debian-12.yml"

# EC2's names of GPUs older than Turing, the first generation that the open kernel modules support.
TOO_OLD = {"K520", "K80", "M60", "V100"}
# Instance families with new GPUs: the first branch of the driver that supports them.
NEEDED_BRANCH = {"g7": 595}


def check_instance_types(described: list[dict[str, Any]]) -> None:
    """Require that the driver supports each of these types, as EC2 describes them; FactoryError if not."""
    chosen = read_variables(model_file())
    if chosen.get("image_accelerator", "cuda") != "cuda":
        return
    driver = str(chosen.get("nvidia_driver_version") or default_driver())
    reasons = {item["InstanceType"]: unsupported_reason(item, driver) for item in described}
    if wrong := [f"{kind} {reason}" for kind, reason in sorted(reasons.items()) if reason]:
        raise FactoryError(
            f"the image cannot be built on some of instance_types: {'; '.join(wrong)}",
            "Choose other instance_types, such as g4dn, g5, g6, g6e or gr6; or image_accelerator: cpu",
        )


def unsupported_reason(item: dict[str, Any], driver: str) -> str:
    """Why the driver does not support an instance type; empty if it does."""
    gpus = [gpu for gpu in item.get("GpuInfo", {}).get("Gpus", []) if gpu.get("Manufacturer") == "NVIDIA"]
    names = {str(gpu.get("Name")) for gpu in gpus}
    needed = NEEDED_BRANCH.get(item["InstanceType"].partition(".")[0], 0)
    if "x86_64" not in item.get("ProcessorInfo", {}).get("SupportedArchitectures", ["x86_64"]):
        return "is not for x86_64"
    if not gpus:
        return "has no NVIDIA GPU"
    if any(gpu.get("GpuPartitionSize", 1) < 1 for gpu in gpus):
        return "has a fraction of a GPU, which needs NVIDIA's GRID driver"
    if names & TOO_OLD:
        return f"has a {', '.join(names)}, which is too old for the open kernel modules (Turing or newer)"
    if branch(driver) < needed:
        return f"needs a driver of branch {needed} or newer, and nvidia_driver_version is {driver}"
    return ""


def branch(driver: str) -> int:
    """The branch of a driver's version, 580 of 580.178.04; 1000 for a template that Ansible fills in."""
    number = driver.partition(".")[0]
    return int(number) if number.isdecimal() else 1000


def default_driver() -> str:
    """The version that the role nvidia installs if none is chosen."""
    return str(yaml.safe_load(NAMES.read_text())["__nvidia_default_version"])
