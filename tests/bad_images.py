"""Image files that are broken in every way that happens."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np


def photo(height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.RandomState(3).randint(0, 256, (height, width, 3)).astype(np.uint8)


def coded(suffix: str, image: np.ndarray | None = None) -> bytes:
    done, content = cv2.imencode(suffix, photo() if image is None else image)
    assert done
    return content.tobytes()


def bomb(width: int = 900000, height: int = 900000) -> bytes:
    """A few bytes that claim to be 2 TB of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


# What is said of each, and its content.
BAD: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "empty": ("x.png", "empty file", lambda: b""),
    "truncated-png": ("x.png", "not a readable image", lambda: coded(".png")[:-1500]),
    "truncated-jpeg": ("x.jpg", "not a readable image", lambda: coded(".jpg")[:-300]),
    "cut-in-the-header": ("x.png", "not a readable image", lambda: coded(".png")[:20]),
    "text": ("x.png", "not a readable image", lambda: b"<html>404 Not Found</html>\n"),
    "zeros": ("x.jpg", "not a readable image", lambda: bytes(5000)),
    "bomb": ("x.png", "of memory to read", bomb),
    "float": (
        "x.tif",
        "holds floating-point numbers of 32 bit",
        lambda: coded(".tif", np.float32(photo()) / 255),
    ),
}


def write_bad(folder: Path, kind: str) -> tuple[Path, str]:
    """Writes a broken image; gives its path, and what an error must say."""
    name, said, content = BAD[kind]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content())
    return folder / name, said
