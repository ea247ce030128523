"""Reading image files for training and measuring, as :mod:`ktdn_plugin.photos` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import decode_rgb, read_rgb, read_size

read_image = read_rgb
image_size = read_size


def decode_image(content: bytes | memoryview | None, name: str | Path) -> NDArray[np.uint8]:
    """Decodes an image file's content.

    Args:
        content: The file's bytes.
        name: What to call it in an error.

    Returns:
        RGB, (h, w, 3), 0 to 255.

    Raises:
        KTDNError: If there is nothing, or as :func:`~ktdn_plugin.photos.read_photo`.
    """
    if content is None:
        raise KTDNError(f"{name}: no such image")
    return decode_rgb(content, name)
