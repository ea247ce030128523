"""Dehazing with the dark channel prior, which needs no training.

Sources: He, Sun, Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009 and TPAMI
2011, whose equations are numbered here as in TPAMI; the transmission is refined by their guided
filter (ECCV 2010, TPAMI 2013) instead of soft matting, as that paper proposes.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.haze.guided_filter import guided_filter

OMEGA = 0.95
PATCH = 15
T0 = 0.1
RADIUS = 20
EPS = 1e-3

BRIGHTEST = 0.001
"""Share of the dark channel's pixels that the airlight is looked for in."""

DARKEST = 1 / 255
"""Least airlight to divide by: a channel that is black everywhere has none."""

Floats = NDArray[np.float32]


def dark_channel_prior(
    image: NDArray[Any],
    *,
    omega: float = OMEGA,
    patch: int = PATCH,
    t0: float = T0,
    radius: int = RADIUS,
    eps: float = EPS,
) -> NDArray[Any]:
    """Removes haze, assuming that a haze-free patch has a pixel that is dark in some channel.

    The airlight A is taken from the haziest pixels (section 4.3), the transmission from the dark
    channel of ``I / A`` (equation 12), refined by a guided filter, and the scene from
    ``J = (I - A) / max(t, t0) + A`` (equation 22).

    Args:
        image: I, RGB (h, w, 3) of any size: uint8, uint16, or floating point in [0, 1].
        omega: Share of the haze that is removed, in [0, 1]; a little is left for depth.
        patch: Side of the patches of the dark channel in pixels, odd.
        t0: Least transmission that is believed, above 0 and up to 1.
        radius: Of the guided filter's windows in pixels, 0 or more; 20 and an ``eps`` of 0.001
            are what the guided filter's authors took for haze.
        eps: Of the guided filter, above 0.

    Returns:
        J, with the image's shape and dtype, clipped to its range.

    Raises:
        TypeError: If the image is not an array of these types.
        ValueError: If its shape, its values or an argument is out of range.

    Example:
        >>> dark_channel_prior(np.full((40, 50, 3), 200, np.uint8)).shape
        (40, 50, 3)
    """
    scaled, scale = _as_floats(image)
    airlight = find_airlight(scaled, patch)
    transmission = find_transmission(
        scaled, airlight, omega=omega, patch=patch, t0=t0, radius=radius, eps=eps
    )
    result = scaled - airlight
    result /= transmission[..., None]
    result += airlight
    np.clip(result, 0, 1, out=result)
    if scale == 1:
        return result.astype(image.dtype, copy=False)
    result *= scale
    return np.rint(result, out=result).astype(image.dtype)


def dark_channel(image: NDArray[Any], patch: int = PATCH) -> NDArray[Any]:
    """Computes the least value of any channel in the patch around each pixel (equation 5).

    Args:
        image: (h, w, 3), floating point or unsigned integers.
        patch: Side of the patches in pixels, odd; they are cut off at the image's borders.

    Returns:
        (h, w) of the same dtype.

    Raises:
        ValueError: If ``patch`` is not odd and positive.
    """
    if patch < 1 or patch % 2 == 0:
        raise ValueError(f"patch must be odd and positive, got {patch}")
    darkest = np.ascontiguousarray(image.min(axis=2))
    return np.asarray(cv2.erode(darkest, np.ones((patch, patch), np.uint8)))


def find_airlight(image: NDArray[Any], patch: int = PATCH) -> Floats:
    """Finds the airlight: the brightest of the haziest pixels (section 4.3).

    The haziest are the 0.1 % that are brightest in the dark channel, one at least, and all that
    are as bright as the darkest of them; the brightest of these in the image, by the sum of its
    channels, gives its colour.

    Args:
        image: RGB (h, w, 3).
        patch: See :func:`dark_channel`.

    Returns:
        (3,).
    """
    dark = dark_channel(image, patch).ravel()
    count = max(1, math.floor(BRIGHTEST * dark.size))
    least = np.partition(dark, dark.size - count)[dark.size - count]
    haziest = np.flatnonzero(dark >= least)
    colours = image.reshape(-1, 3)[haziest]
    return np.asarray(colours[colours.sum(axis=1, dtype=np.float64).argmax()], np.float32)


def find_transmission(
    image: Floats,
    airlight: Floats,
    *,
    omega: float = OMEGA,
    patch: int = PATCH,
    t0: float = T0,
    radius: int = RADIUS,
    eps: float = EPS,
) -> Floats:
    """Estimates how much of the scene's light comes through (equation 12), and refines it.

    Args:
        image: RGB (h, w, 3) in [0, 1].
        airlight: (3,), as :func:`find_airlight` gives it.
        omega: See :func:`dark_channel_prior`, as for all that follows.

    Returns:
        (h, w) in [t0, 1].

    Raises:
        ValueError: If an argument is out of range.
    """
    if not 0 <= omega <= 1:
        raise ValueError(f"omega must be in [0, 1], got {omega}")
    if not 0 < t0 <= 1:
        raise ValueError(f"t0 must be above 0 and up to 1, got {t0}")
    rough = dark_channel(image / np.maximum(airlight, np.float32(DARKEST)), patch)
    rough *= np.float32(-omega)
    rough += 1
    refined = guided_filter(image, rough, radius, eps)
    return np.clip(refined, np.float32(t0), 1, out=refined)


def _as_floats(image: NDArray[Any]) -> tuple[Floats, int]:
    """Scales an image to [0, 1], and returns the divisor."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image must be a numpy array, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"an image must have shape (height, width, 3), got {image.shape}")
    if image.dtype in (np.uint8, np.uint16):
        scale = int(np.iinfo(image.dtype).max)
        return image.astype(np.float32) / np.float32(scale), scale
    if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"an image must be uint8, uint16 or floating point, got {image.dtype}")
    if not (image.min() >= 0 and image.max() <= 1):  # also where there are values that are none
        raise ValueError("an image of floating point numbers must be in [0, 1]")
    return np.ascontiguousarray(image, np.float32), 1
