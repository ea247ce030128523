"""Image files: finding them, reading them, and saying which one is broken."""

from __future__ import annotations

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
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise KTDNError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    return paths


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
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
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
