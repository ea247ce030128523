"""Images inside a page: made smaller, compressed, written out as data URIs."""

from __future__ import annotations

import base64
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ktdn_plugin.photos import Photo, encode_lossy

RGB8 = NDArray[np.uint8]

DIFFERENCE_GAIN = 4
QUALITY = 86  # of WebP
TALLEST = 2  # times the greatest width
LEAST_SHOWN = 800  # pixels; smaller ones are enlarged, so that they can be compared


class Embedded(NamedTuple):
    """An image inside a page.

    Attributes:
        uri: ``data:image/webp;base64,...``.
        width: At which it is shown at most, in CSS pixels.
        height: The same.
    """

    uri: str
    width: int
    height: int


def embed(image: RGB8, max_width: int) -> Embedded:
    """Compresses an image for a page.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        max_width: Widest that it becomes; its height becomes ``TALLEST`` times that at most.
    """
    height, width = image.shape[:2]
    factor = min(1.0, max_width / width, TALLEST * max_width / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray(np.ascontiguousarray(image))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    content = encode_lossy(Photo(np.asarray(picture)), "WebP", QUALITY)
    uri = "data:image/webp;base64," + base64.b64encode(content).decode()
    enlarged = max(1.0, min(LEAST_SHOWN / size[0], TALLEST * LEAST_SHOWN / size[1]))
    return Embedded(uri, round(size[0] * enlarged), round(size[1] * enlarged))


def difference(image: RGB8, clear: RGB8) -> RGB8:
    """Computes how far an image is from the clear one, ``DIFFERENCE_GAIN`` times.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        ``|image - clear| * DIFFERENCE_GAIN``, cut off at 255: black where they are equal.
    """
    distance = np.abs(image.astype(np.int16) - clear)
    return np.minimum(distance * DIFFERENCE_GAIN, 255).astype(np.uint8)
