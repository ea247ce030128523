"""What counts as an image to dehaze; without torch, which ONNX files are run without."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ktdn_plugin.errors import KTDNError

LARGEST = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The value that corresponds to the network's 1.0, by array dtype."""

BEYOND = 1.0
"""How far outside [0, 1] floating-point values may be before they are considered a mistake."""


def is_tensor(image: Any) -> bool:
    """Returns whether something is a tensor of torch, which is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def check_images(images: Any) -> None:
    """Checks that something is an image, or several, fit for a network.

    Args:
        images: An array (h, w, 3) or (n, h, w, 3), or a tensor (3, h, w) or (n, 3, h, w), of the
            types in :data:`LARGEST`, or floating point.

    Raises:
        KTDNError: If it is not, or if floating-point values are far outside [0, 1].
    """
    if is_tensor(images):
        kind, channels = "a tensor is (3, h, w) or (n, 3, h, w)", -3
        types, is_known = "floating point", images.is_floating_point()
    elif isinstance(images, np.ndarray):
        kind, channels = "an array is (h, w, 3) or (n, h, w, 3)", -1
        types, is_known = "uint8, uint16 or float32", images.dtype.name in LARGEST
    else:
        raise KTDNError(f"an image is a path, an array or a tensor, not a {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or shape[channels] != 3 or 0 in shape[-3:]:
        raise KTDNError(f"{kind}, RGB; got {shape}")
    if not is_known:
        raise KTDNError(f"{kind} of {types}; got {images.dtype}")
    if 0 in shape or (isinstance(images, np.ndarray) and images.dtype.kind == "u"):
        return
    values = images.detach() if is_tensor(images) else images
    least, most = float(values.min()), float(values.max())
    # Resizing may overshoot slightly. The comparison also catches NaN.
    if not (least >= -BEYOND and most <= 1 + BEYOND):
        raise KTDNError(
            f"an image in floating point is in [0, 1]; this one has values from {least:.4g} to "
            f"{most:.4g}: divide it by the largest that its format has, or give it as uint8"
        )
