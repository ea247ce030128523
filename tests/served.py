"""A running ``ktdn serve``, what calls it, and photographs for it."""

from __future__ import annotations

import http.client
import io
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np
from PIL import Image
from preloaded import Command

PROGRAM = """
import sys, tempfile
tempfile.tempdir = {!r}  # TMPDIR has been read where all is loaded
from ktdn_plugin.__main__ import ktdn
sys.exit(ktdn())
"""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def line(self) -> str:
        """What is wrong, in one line that names no path of this machine."""
        detail = self.json["detail"]
        assert isinstance(detail, str)
        assert "\n" not in detail
        assert "/tmp" not in detail
        return detail

    @property
    def pixels(self) -> np.ndarray:
        bgr = cv2.imdecode(np.frombuffer(self.body, np.uint8), cv2.IMREAD_UNCHANGED)
        return bgr[..., ::-1]


class Server:
    """A running ``ktdn serve``, whose temporary files lie in a folder of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        words = ("serve", "--checkpoint", "ktdn_tiny", "--device", "cpu", "--port", "0", *words)
        script = folder / "serve.py"
        script.write_text(PROGRAM.format(str(self.temporary)))
        self.command = Command(words, folder, {}, script)
        self.command.wait_until(lambda: "http://" in self.command.printed)
        self.url = re.search(r"http://\S+/", self.command.printed).group()
        self.netloc = urlsplit(self.url).netloc

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.netloc, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def dehaze(self, body: Any, query: str = "", **headers: str) -> Answer:
        return self.call("POST", f"/dehaze?{query}", body, headers)

    def becomes_empty(self) -> bool:
        """Whether nothing of photographs is left, soon after the last answer was read."""
        end = time.monotonic() + 10
        while self.files() and time.monotonic() < end:
            time.sleep(0.02)
        return not self.files()

    def files(self) -> list[Path]:
        """What of photographs is on the disk."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    @property
    def resident(self) -> int:
        status = Path(f"/proc/{self.command.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status).group(1))


def hazy(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A smooth picture (h, w, 3) behind haze."""
    coarse = np.random.RandomState(seed).randint(0, 256, (4, 6, 3)).astype(np.uint8)
    clear = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return (0.5 * clear + 0.5 * 210).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
