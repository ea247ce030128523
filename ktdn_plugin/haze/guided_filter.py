"""The guided filter with a colour guide, exact at the borders, in bounded memory.

Source: He, Sun, Tang, "Guided Image Filtering", ECCV 2010 and TPAMI 2013, the form for colour
guides.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

STRIPE = 256
"""Rows that are filtered at a time: what is needed meanwhile is some twenty times as large."""

Doubles = NDArray[np.float64]


def guided_filter(
    guide: NDArray[Any], image: NDArray[Any], radius: int, eps: float
) -> NDArray[np.float32]:
    """Smooths an image along a colour guide: edges of the guide are kept.

    In each window k the result is an affine function of the guide, ``q = a I + b``, by ridge
    regression: ``a = (Sigma + eps U)^-1 cov(I, p)``, ``b = mean(p) - a mean(I)``, with the guide's
    covariance Sigma and the unit matrix U; each pixel gets the mean over all windows that it is
    in. Windows are cut off at the image's borders.

    Args:
        guide: I, (h, w, 3), about [0, 1].
        image: What is filtered, (h, w).
        radius: Windows are ``2 * radius + 1`` wide and high; 0 or more.
        eps: Weight of the ridge, more than 0: variances well below it are smoothed away.

    Returns:
        (h, w).

    Raises:
        ValueError: If shapes do not fit, or ``radius`` or ``eps`` is out of range.
    """
    if guide.ndim != 3 or guide.shape[2] != 3 or image.shape != guide.shape[:2] or not image.size:
        raise ValueError(
            f"expected a guide (h, w, 3) and an image (h, w), got {guide.shape} and {image.shape}"
        )
    if radius < 0 or not eps > 0:
        raise ValueError(f"radius must be 0 or more and eps above 0, got {radius} and {eps}")
    height = image.shape[0]
    result = np.empty(image.shape, np.float32)
    for top in range(0, height, STRIPE):
        bottom = min(height, top + STRIPE)
        # A pixel depends on the windows that hold it, and these on pixels as far again.
        first = max(0, top - 2 * radius)
        rows = slice(first, bottom + 2 * radius)
        filtered = _filter(guide[rows], image[rows], radius, eps)
        result[top:bottom] = filtered[top - first : bottom - first]
    return result


def _filter(guide: NDArray[Any], image: NDArray[Any], radius: int, eps: float) -> Doubles:
    # Variances are small differences of large numbers: double precision.
    channels = [np.ascontiguousarray(guide[..., c], np.float64) for c in range(3)]
    target = np.ascontiguousarray(image, np.float64)
    count = _box(np.ones_like(target), radius)

    def mean(values: Doubles) -> Doubles:
        return _box(values, radius) / count

    means = [mean(channel) for channel in channels]
    level = mean(target)
    shared = [mean(c * target) - m * level for c, m in zip(channels, means, strict=True)]
    rr, rg, rb, gg, gb, bb = (
        mean(channels[i] * channels[j]) - means[i] * means[j] + (eps if i == j else 0)
        for i in range(3)
        for j in range(i, 3)
    )
    # Each window's a = (Sigma + eps U)^-1 cov(I, p), by the adjugate of a symmetric 3 x 3 matrix.
    inverse = (
        (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb),
        (gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb),
        (rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg),
    )
    determinant = rr * inverse[0][0] + rg * inverse[0][1] + rb * inverse[0][2]
    slopes = [
        (row[0] * shared[0] + row[1] * shared[1] + row[2] * shared[2]) / determinant
        for row in inverse
    ]
    result = level - sum(a * m for a, m in zip(slopes, means, strict=True))
    result = mean(result)
    for slope, channel in zip(slopes, channels, strict=True):
        result += mean(slope) * channel
    return result


def _box(values: Doubles, radius: int) -> Doubles:
    """Sums over windows, of which only what is in the image counts."""
    side = (2 * radius + 1, 2 * radius + 1)
    summed = cv2.boxFilter(values, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(summed, np.float64)
