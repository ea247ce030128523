"""Distances for scenes without a depth map: uneven ramps, far at the top."""

from __future__ import annotations

import math

import numpy as np

from ktdn_plugin.haze.clouds import Floats, Window, draw_octaves, make_clouds

HORIZON = (-0.3, 0.6)  # share of the height that lies above it; below 0 it is outside the picture
TILT = (-20.0, 20.0)  # degrees that the ramp leans to a side, as a street or a valley does
STEEPNESS = (0.5, 3.0)  # exponent of the fall from the horizon to the bottom; 1 is a straight ramp
NEAREST = (0.0, 0.3)  # distance at the bottom
UNEVENNESS = (0.0, 0.5)  # share of the distance that smooth noise takes away, at most
OCTAVES = 3


def make_ramp(stream: np.random.Generator, window: Window) -> Floats:
    """Makes a ramp of distances, in a window of an image.

    The ranges are ours: they cover what outdoor photographs show, from a street with its vanishing
    point in the picture to a meadow seen from above.

    Args:
        stream: Where the ramp is drawn from; what is drawn does not depend on the window.
        window: Which part of the image.

    Returns:
        Distance, (height, width) of the window, in [0, 1], where 1 is as far as one sees.
    """
    horizon, tilt, steepness, nearest, unevenness = (
        stream.uniform(*bounds) for bounds in (HORIZON, TILT, STEEPNESS, NEAREST, UNEVENNESS)
    )
    height, width = window.frame
    ys = (np.arange(window.top, window.top + window.height) + 0.5) / height
    xs = (np.arange(window.left, window.left + window.width) + 0.5 - width / 2) / height
    lean = math.tan(math.radians(tilt)) * xs
    left = (1 - (ys[:, None] + lean - horizon) / (1 - horizon)).astype(np.float32)
    ramp: Floats = np.clip(left, 0, 1, out=left) ** np.float32(steepness)
    noise = draw_octaves(np.random.RandomState(stream.integers(2**32)), OCTAVES)
    ramp *= 1 - np.float32(unevenness) * np.minimum(make_clouds(noise, window, 1.0), 1)
    ramp *= np.float32(1 - nearest)
    ramp += np.float32(nearest)
    return ramp
