"""Instance types and source AMIs that are unsuitable by EC2's description of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from factory.console import FactoryError
from factory.ec2 import instances
from factory.ec2.settings import read_settings
from factory.ec2.sources import check_source
from tests.ami.cloud import Cloud


def kind(cloud: Cloud, name: str) -> dict[str, Any]:
    """EC2's description of an instance type, as moto has it."""
    described: list[dict[str, Any]] = cloud.client("ec2").describe_instance_types(InstanceTypes=[name])[
        "InstanceTypes"
    ]
    return described[0]


@pytest.mark.parametrize(
    ("name", "driver", "says"),
    [
        ("t3.medium", "580.178.04", "has no NVIDIA GPU"),
        ("g4ad.xlarge", "580.178.04", "has no NVIDIA GPU"),
        ("g5g.xlarge", "580.178.04", "is not for x86_64"),
        ("g6f.xlarge", "580.178.04", "which needs NVIDIA's GRID driver"),
        ("gr6f.4xlarge", "580.178.04", "which needs NVIDIA's GRID driver"),
        ("p3dn.24xlarge", "580.178.04", "has a V100, which is too old"),
        ("g7.2xlarge", "580.178.04", "needs a driver of branch 595 or newer"),
        ("g7.2xlarge", "595.91.07", ""),
        ("g7e.2xlarge", "580.178.04", ""),
        ("g7.2xlarge", "{{ lookup('env', 'DRIVER') }}", ""),
        ("g4dn.xlarge", "580.178.04", ""),
        ("g5.xlarge", "580.178.04", ""),
        ("g6.xlarge", "580.178.04", ""),
        ("g6e.xlarge", "580.178.04", ""),
        ("gr6.4xlarge", "580.178.04", ""),
        ("p5.48xlarge", "580.178.04", ""),
    ],
)  # fmt: skip
def test_unsupported_instance_types(server: Cloud, name: str, driver: str, says: str) -> None:
    try:
        described = kind(server, name)
    except server.client("ec2").exceptions.ClientError:  # moto lists only current types
        gpu = {"Gpus": [{"Name": "Radeon Pro V520", "Manufacturer": "AMD", "Count": 1}]}
        described = {"InstanceType": name, "GpuInfo": gpu}
    reason = instances.unsupported_reason(described, driver)
    assert says in reason
    assert bool(says) == bool(reason)


@pytest.mark.parametrize(
    ("bake", "says"),
    [
        ({}, "nvidia_driver_version is 580."),
        ({"nvidia_driver_version": "590.48.01"}, "nvidia_driver_version is 590.48.01"),
        ({"nvidia_driver_version": 595.58}, ""),
        ({"image_accelerator": "cpu"}, ""),
    ],
)
def test_the_driver_is_the_one_that_will_be_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Cloud, bake: dict[str, Any], says: str
) -> None:
    (tmp_path / "vars.yml").write_text(yaml.safe_dump({"model_source": "/m", **bake}))
    monkeypatch.setenv("MODEL", str(tmp_path / "vars.yml"))
    described = [kind(server, "g6.xlarge"), kind(server, "g7.2xlarge")]
    if not says:
        instances.check_instance_types(described)
        return
    with pytest.raises(FactoryError) as refused:
        instances.check_instance_types(described)
    assert "instance_types: g7.2xlarge needs" in str(refused.value)
    assert says in str(refused.value)


DEBIAN = {
    "ImageId": "ami-1",
    "Name": "debian-12-amd64-20261101-2500",
    "Description": "Debian 12 (20261101-2500)",
    "Architecture": "x86_64",
    "PlatformDetails": "Linux/UNIX",
    "RootDeviceName": "/dev/xvda",
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}},
        {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 500}},
        {"DeviceName": "/dev/sdc", "VirtualName": "ephemeral0"},
    ],
}
LARGE = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 65}}
DLAMI = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20261101"


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({}, ""),
        ({"Name": "golden-2026-11", "Description": ""}, ""),
        ({"Name": "deep-learning-base", "Description": "made from Debian 12"}, ""),
        ({"Name": "speech-bookworm-ubuntu-free"}, ""),
        ({"Name": DLAMI, "Description": "Supported: G4dn, G5"}, "it calls itself Deep Learning"),
        ({"Name": "ubuntu/images/hvm-ssd/ubuntu-noble-24.04", "Description": ""}, "it calls itself ubuntu"),
        ({"Name": "debian-13-amd64-20261101-2500", "Description": ""}, "it calls itself debian-13"),
        ({"Name": "al2023-ami-2023.9", "Description": "Amazon Linux 2023 AMI"}, "it calls itself al2023"),
        ({"Name": "base", "Description": "", "PlatformDetails": "SUSE Linux"}, "bills it as SUSE"),
        ({"Architecture": "arm64"}, "is for arm64; it must be for x86_64"),
        ({"BlockDeviceMappings": [LARGE]}, "Set volume_size = 65"),
    ],
)  # fmt: skip
def test_unsupported_sources(monkeypatch: pytest.MonkeyPatch, differs: dict[str, Any], says: str) -> None:
    monkeypatch.delenv("SETTINGS", raising=False)
    settings = replace(read_settings(), volume_size=24)
    if not says:
        check_source(DEBIAN | differs, settings)
        return
    with pytest.raises(FactoryError) as refused:
        check_source(DEBIAN | differs, settings)
    assert says in str(refused.value)
