"""Reading photographs: pixels turned upright, of the file's depth, and the file's metadata."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos.deep import decode_deep
from ktdn_plugin.photos.exif import described_anew
from ktdn_plugin.photos.metadata import is_of_rgb, read_metadata, to_srgb
from ktdn_plugin.photos.photo import ROWS, Photo, PhotoPixels
from ktdn_plugin.photos.png_chunks import bit_depth

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # JPEGs of several pictures are MPO when open
_BITS_PER_SAMPLE, _SUBFILE_TYPE = 258, 254
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")


def read_photo(path: str | Path) -> Photo:
    """Reads a photograph and all that its file says of it.

    PNG, JPEG, WebP, TIFF and BMP, by their content. Grey and palettes become RGB; CMYK becomes
    sRGB, by its profile where it has one. Of several pictures in a file it is the first.

    Args:
        path: The file.

    Returns:
        The photograph, turned upright as its EXIF orientation says.

    Raises:
        KTDNError: If the file cannot be read or is no image, is truncated or damaged, has more
            pixels than a photograph, or pixels that are not of 8 or 16 bit.
    """
    path = Path(path)
    with _explained(path):
        if not path.is_file():
            path.stat()  # which says it where there is nothing
            raise KTDNError(f"{path}: not a regular file")
        content = path.read_bytes()
        if not content:
            raise KTDNError(f"{path}: empty file (0 bytes); copy or download it again")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return _read(image, content, path)


def _read(image: Image.Image, content: bytes, path: Path) -> Photo:
    if image.format == "TIFF" and int(_tag(image, _SUBFILE_TYPE, 0)) & 1:
        raise KTDNError(
            f"{path}: its first picture is a preview, as in a camera's raw files; develop it to "
            "TIFF, PNG or JPEG first"
        )
    bits = _bits(image, content)
    is_deep = bits == {16}
    if not is_deep and (image.mode not in _MODES or max(bits) > 8):
        raise KTDNError(
            f"{path}: holds {image.mode} of {max(bits)} bit; RGB, grey, palettes and CMYK of 8 "
            "bit, and RGB and grey of 16 bit can be read: convert it"
        )
    notes = []
    count = getattr(image, "n_frames", 1)
    if image.format != "MPO" and count > 1:  # in there, the others are previews
        notes.append(f"the first of its {count} pictures was taken")
    if not is_deep or image.format == "PNG":
        image.load()
    metadata, orientation = read_metadata(image, content, notes)
    color: PhotoPixels
    alpha: PhotoPixels | None
    if is_deep:
        mask = image.info.get("transparency")
        image.close()  # it has eight of the bits, and for PNG the memory of all pixels
        color, alpha = decode_deep(content, path, mask)
    else:
        if image.mode == "CMYK":
            image, metadata.icc = to_srgb(image, metadata.icc), b""
            notes.append("CMYK became sRGB")
        color, alpha = _pixels(image)
    if metadata.icc and not is_of_rgb(metadata.icc):
        metadata.icc = b""
        notes.append("its colour profile is not one of RGB and is left out")
    color = turned(color, orientation)
    alpha = None if alpha is None else turned(alpha, orientation)
    metadata.exif = described_anew(metadata.exif, *color.shape[:2])
    return Photo(color, alpha, metadata, notes)


def turned(array: PhotoPixels, orientation: int) -> PhotoPixels:
    """Turns an image upright.

    Args:
        array: (h, w, ...), as it lies in the file.
        orientation: The EXIF orientation, 1 to 8: where the file's first row and column belong
            (EXIF 2.32, tag 274).

    Returns:
        A contiguous array; the same one where it stands upright already.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _pixels(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Converts an image to RGB and alpha, part by part; it is closed afterwards."""
    width, height = image.size
    mode = "RGBA" if image.has_transparency_data else "RGB"
    color = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if mode == "RGBA" else None
    for top in range(0, height, ROWS):
        rows = slice(top, min(top + ROWS, height))
        part = np.asarray(image.crop((0, rows.start, width, rows.stop)).convert(mode))
        color[rows] = part[..., :3]
        if alpha is not None:
            alpha[rows] = part[..., 3]
    image.close()
    return color, alpha


def _bits(image: Image.Image, content: bytes) -> set[int]:
    """Gives the bits of each channel in the file, whatever Pillow makes of them."""
    if image.format == "PNG":
        return {bit_depth(content)}
    if image.format == "TIFF":
        bits = _tag(image, _BITS_PER_SAMPLE, 1)
        return set(bits) if isinstance(bits, tuple) else {int(bits)}
    return {8}


def _tag(image: Any, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Words what goes wrong with an image file."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of half its limit against bombs, and of metadata that it cannot read.
            warnings.simplefilter("ignore")
            yield
    except KTDNError:
        raise
    except Image.DecompressionBombError as error:
        raise KTDNError(
            f"{path}: has more pixels than a photograph (Pillow's limit against decompression "
            "bombs); cut it into parts"
        ) from error
    except MemoryError as error:
        raise KTDNError(
            f"{path}: too large for this machine's memory; cut it into parts"
        ) from error
    except OSError as error:
        if error.errno is not None:  # the file system's, not Pillow's about the content
            raise KTDNError(f"{path}: {error.strerror or error}") from error
        raise _unreadable(path) from error
    # Pillow answers damaged files with errors of many kinds.
    except Exception as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> KTDNError:
    return KTDNError(
        f"{path}: not a readable image of 8 or 16 bit (PNG, JPEG, WebP, TIFF, BMP), or a "
        "truncated one; copy or download it again"
    )
