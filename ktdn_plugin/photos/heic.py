"""HEIC, which the package ``pillow-heif`` decodes, and the deep pictures of its sibling AVIF."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ktdn_plugin.photos.photo import PhotoPixels

_HIGH_DEPTH, _TWELVE_BIT = 0x40, 0x20  # AV1 Codec ISO Media File Format Binding, section 2.3.3
_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}  # ITU-T H.273, table 2
_TRANSFERS = {16: "PQ", 18: "HLG"}  # table 3


def open_heic(content: bytes) -> tuple[Any, list[str]]:
    """Opens a HEIC file, without decoding it.

    Returns:
        Its main image, as :class:`pillow_heif.HeifImage`, and notes on the others.
    """
    import pillow_heif

    file = pillow_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=False)
    count = len(file)
    notes = [f"used the main one of its {count} images"] if count > 1 else []
    return file[file.primary_index], notes


def decode_heic(image: Any) -> PhotoPixels:
    """Decodes an image of :func:`open_heic`.

    Returns:
        (h, w, channels), uint8 or uint16, upright: HEIC says by itself how it is turned.
    """
    bits = int(image.info["bit_depth"])
    values = np.asarray(image)
    if image.premultiplied_alpha:
        raise NotImplementedError("alpha that colours are multiplied by")
    values = values[..., None] if values.ndim == 2 else values
    return values if bits == 8 else _fill(values, bits)


def metadata_of(image: Any) -> Image.Image:
    """Returns a Pillow image with the metadata of an image of :func:`open_heic`, no pixels."""
    stub = Image.new("RGB", (1, 1))
    stub.format = "HEIF"
    kept = ("exif", "xmp", "icc_profile", "aux", "depth_images")
    stub.info = {key: image.info[key] for key in kept if image.info.get(key)}
    return stub


def avif_depth(content: bytes) -> int:
    """Returns the bits of an AVIF's samples: 8, 10 or 12."""
    at = content.find(b"av1C")
    flags = content[at + 6] if 0 <= at < len(content) - 6 else 0
    if not flags & _HIGH_DEPTH:
        return 8
    return 12 if flags & _TWELVE_BIT else 10


def decode_deep_avif(content: bytes, bits: int) -> NDArray[np.uint16] | None:
    """Decodes an AVIF of 10 or 12 bit with OpenCV, since Pillow keeps eight of them.

    Returns:
        (h, w, channels), as it lies in the file; None where this OpenCV knows no AVIF.
    """
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if values is None or values.dtype != np.uint16:
        return None
    values = values[..., None] if values.ndim == 2 else values
    if values.shape[2] >= 3:
        order = cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        values = cv2.cvtColor(values, order)
    return _fill(np.left_shift(values, 16 - bits, dtype=np.uint16), bits)


def unkept_colours(content: bytes) -> str | None:
    """Returns a note on colours that are named by number where no profile describes them."""
    at = content.find(b"colrnclx")
    if at < 0:
        return None
    primaries, transfer = (int.from_bytes(content[at + n : at + n + 2], "big") for n in (8, 10))
    words = [_PRIMARIES.get(primaries), _TRANSFERS.get(transfer)]
    named = " ".join(word for word in words if word)
    return f"its colours are {named}, of which it has no profile to keep" if named else None


def _fill(values: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """Spreads values in the upper bits over the whole range, so that white is 65535."""
    return np.asarray(values | (values >> bits), np.uint16)
