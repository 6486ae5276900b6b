"""The fleet against moto, which stands in for AWS (stacks.py, deployer.py)."""

import os

from factory.console import ROOT

os.environ["MOTO_AMIS_PATH"] = str(ROOT / "tests/ami/source-amis.json")  # moto reads it when imported
