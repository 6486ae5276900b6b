"""Print the versions for image.json, as JSON.

Run by the venv's Python, with two arguments: the home folder and the name of the model.
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
licences = home / "THIRD-PARTY-LICENCES.txt"  # written by the role venv
origin = home / "model" / model / "origin.json"
print(
    json.dumps(
        {
            "version": (home / "runtime/VERSION").read_text().strip(),
            # The kernel that the image boots; in a container, the running kernel is the build host's.
            "kernel": Path("/vmlinuz").resolve(strict=True).name.removeprefix("vmlinuz-"),
            "driver": driver.read_text().strip() if driver.exists() else None,
            # The GPU of the builder; an instance may have another.
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
