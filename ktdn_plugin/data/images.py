"""Image files: finding them, reading them, and saying which one is broken."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ktdn_plugin.errors import KTDNError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


def list_images(folder: str | Path) -> list[Path]:
    """Lists the images of a folder and of all folders below it, sorted by path.

    Hidden files and folders are left out.

    Raises:
        KTDNError: If the folder is not there or has no image, or one below it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KTDNError(f"{folder}: no such folder")
    paths: list[Path] = []
    seen: set[Path] = set()
    # Links to folders are followed, each folder once: a link may lead back to where it lies.
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
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


def _refuse(error: OSError) -> None:
    """Ends a walk at a folder that it would otherwise pass over without a word."""
    raise KTDNError(f"{error.filename}: {error.strerror or error}") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Reads an image's height and width from its header, as it is when it is decoded.

    Raises:
        KTDNError: If the file cannot be read or is no image, or has too many pixels.
    """
    try:
        _require_file(path)
        found = _header(path, path)
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    return read_image(path).shape[:2] if found is None else found


def _require_file(path: str | Path) -> None:
    """Refuses what could be waited for without end, such as a pipe."""
    if not Path(path).is_file():
        Path(path).stat()  # which says it where there is nothing
        raise KTDNError(f"{path}: not a regular file; remove it")


def _header(file: str | Path | io.BytesIO, name: str | Path) -> tuple[int, int] | None:
    """Reads (height, width); None is for what only OpenCV may know."""
    try:
        with Image.open(file) as image:
            turned = _exif(image).get(_ORIENTATION) in _TURNED
            if turned and image.format == "TIFF":
                return None  # some versions of Pillow have turned the size already
            return image.size if turned else (image.height, image.width)
    except Image.DecompressionBombError as error:
        raise KTDNError(
            f"{name}: has more pixels than a photograph (Pillow's limit against decompression "
            "bombs); cut it into parts, or remove it"
        ) from error
    except OSError as error:
        if error.errno is not None:  # the file system's, not Pillow's about the content
            raise
        return None
    # Pillow answers damaged headers with errors of many kinds.
    except Exception:
        return None


def _exif(image: Image.Image) -> Image.Exif:
    if image.format != "PNG":
        return image.getexif()
    # Of a PNG, that would decode everything, for EXIF data behind the pixels.
    exif = Image.Exif()
    if "exif" in image.info:
        exif.load(image.info["exif"])
    return exif


def decode_image(content: bytes | memoryview | None, name: str | Path) -> NDArray[np.uint8]:
    """Decodes an image file's content.

    Args:
        content: The file's bytes.
        name: What to call it in an error.

    Returns:
        BGR, (h, w, 3), 0 to 255: what OpenCV and BasicSR work on. Grey becomes BGR, alpha is
        dropped, 16 bit is reduced to 8, an EXIF orientation is applied.

    Raises:
        KTDNError: If there is nothing, or it is no image, a truncated one, one of floating point
            numbers, or one of more pixels than a photograph has.
    """
    if content is None:
        raise KTDNError(f"{name}: no such image")
    if not len(content):
        raise KTDNError(f"{name}: empty file (0 bytes); copy or download it again")
    # Before anything is decoded: a few kilobytes can unfold to gigabytes.
    _header(io.BytesIO(content), name)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise KTDNError(f"{name}: OpenCV cannot read it ({error.err})") from error
    if image is None or is_cut_off(content):
        raise KTDNError(
            f"{name}: not a readable image of 8 or 16 bit, or a truncated one; copy or download "
            "it again, or remove it"
        )
    return np.asarray(image, dtype=np.uint8)


def is_cut_off(content: bytes | memoryview) -> bool:
    """Tells a JPEG without its end, which OpenCV before 5 fills up with grey.

    What lies behind the end, such as a phone's video, does not matter; nor does a preview in front.
    """
    data = bytes(content)
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while data[at : at + 2] != b"\xff\xda":  # up to the first scan, segment by segment
        if at + 4 > len(data) or data[at] != 0xFF:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    # The coded picture never holds this marker.
    return data.find(b"\xff\xd9", at) < 0


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads an image file.

    Returns:
        RGB, (h, w, 3), 0 to 255.

    Raises:
        KTDNError: If the file cannot be read or is no image.
    """
    try:
        _require_file(path)
        content = Path(path).read_bytes()
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    rgb = cv2.cvtColor(decode_image(content, path), cv2.COLOR_BGR2RGB)
    return np.asarray(rgb, dtype=np.uint8)
