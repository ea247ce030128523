"""A stand-in for the Hugging Face Hub on loopback: what loading and pushing a network meets of it.

Written from what huggingface_hub asks, in words of our own: files by name, making a repository,
and a commit whose files come inside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a dictionary of files; ``closed/`` is forbidden to push to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(with_content=False)

    def do_GET(self) -> None:
        self._file(with_content=True)

    def _file(self, with_content: bool) -> None:
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        files = self.server.repositories.get(repository)
        if files is None:
            return self._answer(401, error="RepoNotFound")
        content = files.get(rest.partition("/")[2])
        if content is None:
            return self._answer(404, error="EntryNotFound")
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        return self._answer(200, content, headers, with_content)

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api/repos/create":
            asked = json.loads(text)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name.startswith("closed/"):
                return self._answer(403, b'{"error": "You have no rights here"}')
            self.server.repositories.setdefault(name, {})
            return self._json(url=f"{self.server.address}/{name}", id=name, name=name)
        if self.path == "/api/validate-yaml":
            return self._json(errors=[], warnings=[])
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(text)["files"]
            ]
            return self._json(files=files)
        assert self.path.endswith("/commit/main"), self.path
        name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        for line in map(json.loads, text.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                self.server.repositories[name][value["path"]] = base64.b64decode(value["content"])
        url = f"{self.server.address}/{name}/commit/{COMMIT}"
        return self._json(commitUrl=url, commitOid=COMMIT, success=True)

    def _json(self, **content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(
        self,
        status: int,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        with_content: bool = True,
        error: str = "",
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)
