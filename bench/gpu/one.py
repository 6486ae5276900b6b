"""Run one step in this process; see steps.py.

.venv/bin/python -m bench.gpu.one bench.gpu.attention cuda SCRATCH ROWS
"""

import importlib
import json
import sys
from pathlib import Path

from bench.gpu.place import Place


def main() -> None:
    """Write the step's rows to the file ROWS as they are produced."""
    module, device, scratch, rows = sys.argv[1:]
    place = Place(device, Path(scratch))
    with Path(rows).open("w") as file:
        for row in importlib.import_module(module).run(place):
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
