"""Writing TIFF files of 8 or 16 bit with all their metadata, which Pillow does for 8 bit alone."""

from __future__ import annotations

import warnings
import zlib
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from ktdn_plugin.photos.exif import PREFIX
from ktdn_plugin.photos.metadata import STRUCTURE
from ktdn_plugin.photos.photo import Metadata, Photo

STRIP_ROWS = 64

Order = Literal["<", ">"]
LIMIT = 2**32 - 2**20
"""Bytes that a TIFF's 32-bit offsets can reach, less what tags take beside long metadata."""

# TIFF 6.0 and its supplements
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _COUNTS = 273, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _RESOLUTION_UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_EXTRA_SAMPLES, _XMP, _ICC, _EXIF_IFD, _INTEROP_IFD = 338, 700, 34675, 34665, 40965
_DEFLATE, _RGB, _HORIZONTAL, _INCH, _UNASSOCIATED = 8, 2, 2, 2, 2


class TooLargeError(ValueError):
    """A photograph takes more than :data:`LIMIT`."""


def write_tiff(file: BinaryIO, photo: Photo, compression: int | None = None) -> None:
    """Writes a photograph as a TIFF compressed with Deflate, with horizontal prediction.

    Args:
        file: Open for writing, at its start.
        photo: RGB, and alpha where it has one, of 8 or 16 bit.
        compression: zlib's level, 0 to 9; by default what is fast.

    Raises:
        TooLargeError: If that takes more than :data:`LIMIT`; nothing has been written then.
    """
    tags = _tags(photo.metadata)
    height, width = photo.pixels.shape[:2]
    channels = 3 if photo.alpha is None else 4
    order: Order = "<" if tags.endian == "<" else ">"
    strips = [
        _compressed(photo, slice(top, top + STRIP_ROWS), order, compression)
        for top in range(0, height, STRIP_ROWS)
    ]
    sizes = [len(strip) for strip in strips]
    metadata = photo.metadata
    # Of each strip, where it is and how long takes four bytes each.
    length = sum(sizes) + 8 * len(sizes)
    length += len(metadata.exif) + len(metadata.icc) + len(metadata.xmp)
    if length > LIMIT:
        raise TooLargeError(f"{length:,} bytes, but a TIFF holds at most {LIMIT:,}: use PNG")
    tags[_WIDTH], tags[_HEIGHT] = width, height
    tags[_BITS] = (8 * photo.pixels.dtype.itemsize,) * channels
    tags[_COMPRESSION], tags[_PREDICTOR] = _DEFLATE, _HORIZONTAL
    tags[_PHOTOMETRIC], tags[_PLANAR], tags[_SAMPLES] = _RGB, 1, channels
    tags[_ROWS_PER_STRIP] = STRIP_ROWS
    tags[_COUNTS] = tuple(sizes)
    # Counted from the end of the tags: Pillow adds where that is.
    tags[_OFFSETS] = tuple(int(offset) for offset in np.cumsum([0, *sizes[:-1]], dtype=np.int64))
    if photo.alpha is not None:
        tags[_EXTRA_SAMPLES] = _UNASSOCIATED
    file.write(tags.tobytes().removeprefix(PREFIX))
    for strip in strips:
        file.write(strip)


def read_exif(block: bytes) -> Image.Exif | None:
    """Reads an EXIF block as tags of a TIFF, without those that say how pixels lie in it.

    Returns:
        None if there is none, or it is damaged.
    """
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it leaves out
            exif.load(block)
            for tag in STRUCTURE & exif.keys():
                del exif[tag]
            exif.tobytes()  # which is where damage shows
    # Pillow answers what does not make sense in there with errors of many kinds.
    except Exception:
        return None
    return exif if len(exif) else None


def _tags(metadata: Metadata) -> Image.Exif:
    exif = read_exif(metadata.exif) or Image.Exif()
    exif.endian = exif.endian or "<"
    if metadata.icc:
        exif[_ICC] = metadata.icc
    if metadata.xmp:
        exif[_XMP] = metadata.xmp
    if metadata.dpi:
        exif[_X_RESOLUTION], exif[_Y_RESOLUTION] = metadata.dpi
        exif[_RESOLUTION_UNIT] = _INCH
    return exif


def _compressed(photo: Photo, rows: slice, order: Order, compression: int | None) -> bytes:
    part = photo.pixels[rows]
    if photo.alpha is not None:
        part = np.concatenate((part, photo.alpha[rows, :, None]), axis=2)
    # TIFF 6.0, section 14: each sample less the one to its left, modulo the type's range.
    differences = part.copy()
    differences[:, 1:] -= part[:, :-1]
    content = differences.astype(differences.dtype.newbyteorder(order)).tobytes()
    if compression is None:
        # A photograph's low bits are noise: runs alone take a third of the time, and as much room.
        strategy = zlib.Z_RLE if photo.is_deep else zlib.Z_DEFAULT_STRATEGY
        compressor = zlib.compressobj(1, strategy=strategy)
        return compressor.compress(content) + compressor.flush()
    return zlib.compress(content, compression)
