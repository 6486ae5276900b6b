import os
import sys
from pathlib import Path

if os.environ.get("PREHEAT_ENVIRONMENT") != "clean":
    # First of all: a module on the caller's PYTHONPATH could shadow any that is imported later.
    here = Path(__file__).resolve().parent
    os.chdir(here.parent)
    clean = str(here / "environment.sh")
    os.execv(clean, [clean, sys.executable, "-m", "factory", *sys.argv[1:]])  # noqa: S606

from factory.cli import main

if __name__ == "__main__":
    main()
