"""Image files: finding them, reading them, and saying which one is broken."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def list_images(folder: str | Path) -> list[Path]:
    """Lists the images of a folder and of all folders below it, sorted by path.

    Hidden files and folders are left out.

    Raises:
        KTDNError: If the folder is not there or has no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KTDNError(f"{folder}: no such folder")
    paths: list[Path] = []
    seen: set[Path] = set()
    # Links to folders are followed, each folder once: a link may lead back to where it lies.
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        folders[:] = [] if here in seen else [name for name in folders if name[0] != "."]
        if here not in seen:
            paths += [
                Path(parent, name)
                for name in files
                if name[0] != "." and Path(name).suffix.lower() in SUFFIXES
            ]
        seen.add(here)
    if not paths:
        hint = "; set io_backend: {type: lmdb}" if folder.suffix == ".lmdb" else ""
        raise KTDNError(f"{folder}: holds no image ({', '.join(SUFFIXES)}){hint}")
    return sorted(paths)


def decode_image(content: bytes | None, name: str | Path) -> NDArray[np.uint8]:
    """Decodes an image file's content.

    Args:
        content: The file's bytes.
        name: What to call it in an error.

    Returns:
        BGR, (h, w, 3), 0 to 255: what OpenCV and BasicSR work on. Grey becomes BGR, alpha is
        dropped, 16 bit is reduced to 8.

    Raises:
        KTDNError: If there is nothing, or it is no image, or a truncated one.
    """
    if content is None:
        raise KTDNError(f"{name}: no such image")
    if not len(content):
        raise KTDNError(f"{name}: empty file (0 bytes); copy or download it again")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # more pixels than OpenCV takes
        raise KTDNError(f"{name}: OpenCV cannot read it ({error.err})") from error
    if image is None:
        raise KTDNError(f"{name}: not a readable image; copy or download it again, or remove it")
    return np.asarray(image, dtype=np.uint8)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads an image file.

    Returns:
        RGB, (h, w, 3), 0 to 255.

    Raises:
        KTDNError: If the file cannot be read or is no image.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    rgb = cv2.cvtColor(decode_image(content, path), cv2.COLOR_BGR2RGB)
    return np.asarray(rgb, dtype=np.uint8)
