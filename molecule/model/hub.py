"""A stand-in for the model hub: one repository at one commit, for `hf download` and factory/hub.py.

    python3 hub.py PORT ID COMMIT FOLDER

It answers the requests that the hub's client makes (https://huggingface.co/docs/hub/api):
    GET  /api/models/ID                       its newest commit, and its files with their SHA-256
    GET  /api/models/ID/revision/COMMIT       the same
    GET  /api/models/ID/tree/COMMIT           the names and sizes of its files
    HEAD /ID/resolve/COMMIT/FILE              size and entity tag
    GET  /ID/resolve/COMMIT/FILE              the file
If the folder has a file .gated, files are listed for everyone, but served only with the token in that file.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, ID, COMMIT, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
FILES = {path.name: path for path in FOLDER.iterdir() if path.name != ".gated"}
GATE = FOLDER / ".gated"


def entry(path: Path) -> dict[str, object]:
    """A file in the listing of a commit."""
    return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}


def sibling(path: Path) -> dict[str, object]:
    """A file in the description of a model; for files in Git LFS, such as weights, with the SHA-256."""
    told: dict[str, object] = {"rfilename": path.name, "size": path.stat().st_size}
    if path.suffix == ".safetensors":
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        told["lfs"] = {"sha256": digest, "size": path.stat().st_size, "pointerSize": 134}
    return told


class Hub(BaseHTTPRequestHandler):
    """Answers for the one repository, and with 404 for all else, like the hub."""

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Answer with the body."""
        self.answer(body=True)

    def let_in(self) -> bool:
        """Whether the request has the token."""
        return self.headers["Authorization"] == f"Bearer {GATE.read_text()}"

    def answer(self, *, body: bool) -> None:
        """Answer one request."""
        prefix = f"/{ID}/resolve/{COMMIT}/"
        path, name = self.path.partition("?")[0], self.path.removeprefix(prefix)
        kind = "application/json"
        if path.startswith(f"/api/models/{ID}/tree/{COMMIT}"):
            content = json.dumps([entry(file) for file in FILES.values()]).encode()
        elif path in (f"/api/models/{ID}", f"/api/models/{ID}/revision/{COMMIT}"):
            told = {"id": ID, "sha": COMMIT, "siblings": [sibling(file) for file in FILES.values()]}
            content = json.dumps(told).encode()
        elif path.startswith(prefix) and GATE.exists() and not self.let_in():
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        elif path.startswith(prefix) and name in FILES:
            content, kind = FILES[name].read_bytes(), "application/octet-stream"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)


ThreadingHTTPServer(("127.0.0.1", PORT), Hub).serve_forever()
