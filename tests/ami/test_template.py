"""Packer's template: what an old Packer gets of it, and its variables."""

import difflib
from pathlib import Path

import pytest

from factory import packer
from factory.console import ROOT, FactoryError
from factory.ec2.settings import variables

LEFT_OUT = [
    '    include_deprecated = var.source_ami != ""',
    '  imds_support = "v2.0"',
    "  metadata_options {",
    '    http_endpoint               = "enabled"',
    '    http_tokens                 = "required"',
    "    http_put_response_hop_limit = 1",
    "  }",
]


def test_an_old_packer_gets_all_but_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "version", lambda _: packer.OLDEST)
    staged = packer.template(Path("packer"))
    tree = {path.name for path in packer.TEMPLATE.glob("*.hcl")}
    assert {path.name for path in staged.iterdir()} == tree - {"plugins.pkr.hcl"}
    left_out = []
    for path in staged.iterdir():
        old, new = (packer.TEMPLATE / path.name).read_text(), path.read_text()
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0):
            if not line.startswith(("---", "+++", "@@")):
                assert line[0] == "-", line
                left_out.append(line[1:])
    assert left_out == LEFT_OUT


def test_a_current_packer_gets_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "version", lambda _: (1, 14, 1))
    assert packer.template(Path("packer")) == packer.TEMPLATE


def test_what_preflight_asks_of_packer_is_what_the_template_asks() -> None:
    block = (packer.TEMPLATE / "plugins.pkr.hcl").read_text()
    assert f'required_version = ">= {".".join(map(str, packer.PLUGINS_SINCE))}"' in block


@pytest.mark.parametrize("values", [None, *sorted((ROOT / "packer").glob("*.pkrvars.*"))], ids=str)
def test_every_file_of_values_is_valid(values: Path | None) -> None:
    for source in ("null.local", "amazon-ebs.ami"):
        packer.validate(packer.packer(), source, values)


def test_validation_can_fail(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pkrvars.hcl"
    wrong.write_text("volume_size = 1\n")
    with pytest.raises(FactoryError, match="between 16 and 16384"):
        packer.validate(packer.packer(), "amazon-ebs.ami", wrong)


def test_every_variable_is_described() -> None:
    for name, variable in variables().items():
        assert variable["description"].endswith("."), name
        assert {"type", "default"} <= variable.keys(), name
