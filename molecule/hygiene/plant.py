"""Plant an offender for each item of the hygiene list.

Run as `python3 plant.py ROOT ITEMS`, ITEMS being the list as JSON; it prints the path of each offender.
"""

import json
import sys
from pathlib import Path

FILES = ("machine-id", "hostname", "hosts")
root, items = Path(sys.argv[1]), json.loads(sys.argv[2])
for item in items:
    path = root / item["path"].replace("~", "/home/*").lstrip("/").replace("*", "planted")
    # Plant inside a folder if the system has one there, or if the state is about a folder's contents.
    if path.is_dir() or (item["state"] != "absent" and not path.is_file() and path.name not in FILES):
        path = path / "planted" / "planted"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        path.write_text("planted\n")
    print(path)
