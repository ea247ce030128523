"""Pixels of 16 bit, of which Pillow would keep eight: PNG and TIFF, with OpenCV and tifffile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos.bands import Bands
from ktdn_plugin.photos.exif import reset_orientation
from ktdn_plugin.photos.photo import ROWS, PhotoPixels
from ktdn_plugin.photos.png_chunks import SIGNATURE

FULL = 65535
_MINISWHITE, _MINISBLACK, _RGB = 0, 1, 2  # TIFF 6.0, PhotometricInterpretation
_ASSOCIATED = 1  # TIFF 6.0, ExtraSamples: colours that alpha was multiplied into

Color = NDArray[np.uint16]
Decoded = tuple[PhotoPixels, PhotoPixels | None]


def decode_sixteen_bit(
    content: bytes, name: str | Path, mask: object = None, bands: Bands | None = None
) -> Decoded:
    """Decodes a PNG or TIFF file of 16 bit a channel, as it lies in the file.

    TIFFs of 8 bit with more bands than Pillow knows are decoded, too.

    Args:
        content: The file.
        name: What to call it in an error.
        mask: A grey PNG's value that stands for transparent, if it has one.
        bands: A TIFF's bands.

    Returns:
        RGB (h, w, 3), and alpha (h, w) where there is any.

    Raises:
        KTDNError: If it cannot be decoded, or has other channels than grey or RGB and alpha.
    """
    if content.startswith(SIGNATURE):
        values = _by_opencv(content, name)
        color, alpha = split_channels(values, name)
        if alpha is None and isinstance(mask, int):
            alpha = np.where(color[..., 0] == mask, 0, FULL).astype(np.uint16)
        return color, alpha
    return _decode_tiff(content, name, bands)


def _decode_tiff(content: bytes, name: str | Path, bands: Bands | None) -> Decoded:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages[0]
        photometric, planar = int(page.photometric), int(page.planarconfig)
        associated = tuple(int(kind) for kind in page.extrasamples)[:1] == (_ASSOCIATED,)
        if photometric not in (_MINISWHITE, _MINISBLACK, _RGB) or page.dtype not in (
            np.uint16,
            np.uint8,
        ):
            raise KTDNError(
                f"{name}: holds {page.photometric.name} of 16 bit; only RGB and grey are "
                "supported: "
                "convert it"
            )
        # OpenCV knows all compressions, tifffile all arrangements.
        is_many = bands is not None and bands.needs_tifffile
        if planar == 2 or file.is_bigtiff or photometric == _MINISWHITE or is_many:
            try:
                values = page.asarray()
            except Exception as error:
                raise KTDNError(
                    f"{name}: an unsupported TIFF (planar, of many bands, inverted grey or "
                    f"BigTIFF) ({error}); save it with ZIP compression, or none"
                ) from error
            values = np.moveaxis(values, 0, -1) if planar == 2 and values.ndim == 3 else values
        else:
            values = _by_opencv(content, name)
    if bands is not None and values.ndim == 3:
        values = values[..., : bands.colours + bands.has_alpha]
    color, alpha = split_channels(values, name)
    if photometric == _MINISWHITE:
        color = FULL - color
    if associated and alpha is not None:
        _divide(color, alpha)
    return color, alpha


def _by_opencv(content: bytes, name: str | Path) -> Color:
    # Some versions of OpenCV turn a TIFF, others do not: this one is upright for all of them.
    upright = bytearray(content)
    reset_orientation(upright)
    try:
        values = cv2.imdecode(np.frombuffer(upright, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise KTDNError(f"{name}: OpenCV cannot read it ({error.err})") from error
    if values is None or values.dtype != np.uint16:
        raise KTDNError(
            f"{name}: not a readable image, but a truncated or damaged one of 16 bit; copy or "
            "download it again"
        )
    if values.ndim == 3 and values.shape[2] in (3, 4):
        order = cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        cv2.cvtColor(values, order, dst=values)
    return np.asarray(values, np.uint16)


def split_channels(values: PhotoPixels, name: str | Path) -> Decoded:
    """Splits values into RGB and alpha.

    Args:
        values: (h, w), or (h, w, channels): grey or RGB, and alpha or none.
        name: What to call the file in an error.
    """
    values = values[..., None] if values.ndim == 2 else values
    channels = values.shape[2]
    if channels > 4:
        raise KTDNError(f"{name}: has {channels} channels; save it as RGB or RGBA")
    alpha = np.ascontiguousarray(values[..., -1]) if channels in (2, 4) else None
    if channels < 3:
        return np.repeat(values[..., :1], 3, axis=2), alpha
    return np.ascontiguousarray(values[..., :3]), alpha


def _divide(color: PhotoPixels, alpha: PhotoPixels) -> None:
    """Takes alpha out of colours that it was multiplied into, in place."""
    full = np.iinfo(color.dtype).max
    for top in range(0, len(color), ROWS):
        rows = slice(top, top + ROWS)
        share = np.maximum(alpha[rows], 1).astype(np.uint64)[..., None]
        whole = (color[rows].astype(np.uint64) * full + share // 2) // share
        color[rows] = np.minimum(whole, full)
