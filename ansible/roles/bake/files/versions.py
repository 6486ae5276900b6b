"""Print as JSON what image.json says of versions.

Run by the venv's Python, with the home folder and the name of the model.
"""

import json
import platform
import sys
from pathlib import Path

import torch
import transformers

home, model = Path(sys.argv[1]), sys.argv[2]
driver = Path("/sys/module/nvidia/version")
gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
licences = home / "THIRD-PARTY-LICENCES.txt"  # the role venv writes it
origin = home / "model" / model / "origin.json"
print(
    json.dumps(
        {
            "version": (home / "runtime/VERSION").read_text().strip(),
            # The kernel that the image boots; the one that runs now may be the build host's.
            "kernel": Path("/vmlinuz").resolve(strict=True).name.removeprefix("vmlinuz-"),
            "driver": driver.read_text().strip() if driver.exists() else None,
            # What it was baked and tried on; an instance may have another.
            "gpu": {"name": gpu.name, "memory_bytes": gpu.total_memory} if gpu else None,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "licences": str(licences) if licences.exists() else None,
            "model": json.loads(origin.read_text()),
        }
    )
)
