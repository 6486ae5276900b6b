"""A stand-in for the model hub: one repository at one commit, as far as `hf download` asks.

    python3 hub.py PORT ID COMMIT FOLDER

The three requests that its client makes of the real hub (https://huggingface.co/docs/hub/api):
    GET  /api/models/ID/tree/COMMIT           the names and sizes of its files
    HEAD /ID/resolve/COMMIT/FILE              size and entity tag
    GET  /ID/resolve/COMMIT/FILE              the file
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, ID, COMMIT, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
FILES = {path.name: path for path in FOLDER.iterdir()}


class Hub(BaseHTTPRequestHandler):
    """Answers for the one repository; 404 for all else, as the hub does."""

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Answer with the body."""
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """Answer one request."""
        prefix = f"/{ID}/resolve/{COMMIT}/"
        name = self.path.removeprefix(prefix)
        if self.path.startswith(f"/api/models/{ID}/tree/{COMMIT}"):
            listing = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": name}
                for name, path in FILES.items()
            ]
            content, kind = json.dumps(listing).encode(), "application/json"
        elif self.path.startswith(prefix) and name in FILES:
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
