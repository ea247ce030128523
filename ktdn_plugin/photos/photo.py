"""A photograph in memory: its pixels, and what its file says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

PhotoPixels = NDArray[Any]
"""uint8 or uint16."""

ROWS = 256
"""Rows that are worked on at a time, so that no second copy of a large photograph is made."""

MOST_TEXT = 64 * 2**20
"""Bytes of a PNG's colour profile, and of all its texts together, that are read and written."""


@dataclass
class Metadata:
    """An image file's metadata.

    Attributes:
        exif: The EXIF block from its TIFF header on, or nothing. Its orientation is upright, and
            it has no thumbnail.
        icc: The ICC profile, which describes RGB, or nothing.
        xmp: The XMP packet, or nothing.
        text: A PNG's texts, by keyword.
        dpi: Horizontal and vertical resolution in pixels per inch, None where it is not known.
        comment: A JPEG's comment.
        iptc: A JPEG's segments APP13, where IPTC's captions are, as they lie in the file.
        colour: A PNG's chunks about colour, such as gAMA: their contents by their names.
        is_lossless_webp: Whether it was a WebP that is compressed without loss.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    text: dict[str, str] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    iptc: bytes = b""
    colour: dict[bytes, bytes] = field(default_factory=dict)
    is_lossless_webp: bool = False


@dataclass
class Photo:
    """A photograph: pixels that stand upright, and its file's metadata.

    Attributes:
        pixels: RGB, (h, w, 3), uint8 or uint16 over the whole range of the type, encoded as in
            the file.
        alpha: (h, w) of the same type, 0 where the photograph is transparent; None where its file
            has no alpha channel.
        metadata: What else the file says.
        notes: What of the file could not be taken over, one line each.

    Example:
        >>> Photo(np.zeros((4, 6, 3), np.uint16)).is_deep
        True
    """

    pixels: PhotoPixels
    alpha: PhotoPixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: list[str] = field(default_factory=list)

    @property
    def is_deep(self) -> bool:
        """Whether it has 16 bit."""
        return bool(self.pixels.dtype == np.uint16)


def to_8_bit(values: PhotoPixels) -> NDArray[np.uint8]:
    """Rounds 16-bit values to 8 bit; those of 8 bit stay what they are.

    Args:
        values: An array of any shape.
    """
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    out = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), ROWS):
        rows = slice(top, top + ROWS)
        out[rows] = (values[rows].astype(np.uint32) + 128) // 257
    return out
