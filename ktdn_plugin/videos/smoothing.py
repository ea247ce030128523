"""Keeps a video from flickering: what the network changes is averaged over time.

A network sees each frame alone, so noise and small movements make its change brighter and darker
from frame to frame. In each of some hundred cells of a frame the change is fitted by a gain and
an offset for each colour, as ``dehazed - hazy = gain * hazy + offset``, after the guided
filter (He, Sun and Tang, 2010). Gains and offsets are averaged over time, and the frame gets the
difference between the average and its own. Detail is what the network gives for the frame itself.
Networks with the head ``affine`` compute such gains and offsets; the others are fitted as well.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CELLS = 32  # along the longer side
_SMALL = 256  # pixels of the copy that gains are fitted to
_EVEN = 0.02**2  # a cell of less variance has no gain of its own
_MOVED = 0.04  # a cell whose brightness changed by this much is another part of the scene
_CUT = 0.08  # mean change between frames of different scenes
_ROWS = 256  # of a strip, to avoid floating-point copies of the whole frame

Grid = NDArray[np.float32]


class Smoother:
    """Averages the network's change over time.

    Args:
        seconds: Time constant: the weight of what is that old has sunk to 1/e.

    Attributes:
        state: What is known of the frames before, (4, rows, columns, 3): average gain, offset
            and brightness of each cell, and the last frame's brightness. None at a scene's begin.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.state: Grid | None = None

    def __call__(self, hazy: NDArray[Any], dehazed: NDArray[Any], passed: float) -> NDArray[Any]:
        """Returns a frame's result with the averaged change.

        Args:
            hazy: The frame, RGB (h, w, 3), uint8 or uint16; frames come in order.
            dehazed: The network's result for it.
            passed: Seconds since the frame before.
        """
        if not self.seconds:
            return dehazed
        gain, offset, mean = _fit(hazy, dehazed)
        before = self.state
        if before is None or np.abs(mean - before[3]).mean() > _CUT:
            self.state = np.stack([gain, offset, mean, mean])
            return dehazed
        moved = np.abs(mean - before[2]).max(axis=2, keepdims=True) / _MOVED
        keep = math.exp(-max(passed, 0) / self.seconds) * np.exp(-(moved**2))
        now = np.stack([gain, offset, mean])
        averaged = (now + keep * (before[:3] - now)).astype(np.float32)
        self.state = np.concatenate([averaged, mean[None]])
        return _apply(hazy, dehazed, averaged[0] - gain, averaged[1] - offset)


def _fit(hazy: NDArray[Any], dehazed: NDArray[Any]) -> tuple[Grid, Grid, Grid]:
    """Returns gain, offset and the frame's mean of each cell, (rows, columns, 3) in [0, 1]."""
    height, width = hazy.shape[:2]
    x = _small(hazy)
    change = _small(dehazed) - x
    scale = _CELLS / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    x_mean, mean, squares, product = (
        cv2.GaussianBlur(cv2.resize(one, size, interpolation=cv2.INTER_AREA), (3, 3), 0)
        for one in (x, change, x * x, x * change)
    )
    variance = np.maximum(squares - x_mean * x_mean, 0)
    gain = ((product - x_mean * mean) / (variance + _EVEN)).astype(np.float32)
    return gain, (mean - gain * x_mean).astype(np.float32), x_mean.astype(np.float32)


def _small(image: NDArray[Any]) -> Grid:
    height, width = image.shape[:2]
    scale = min(1, _SMALL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def _apply(hazy: NDArray[Any], dehazed: NDArray[Any], gain: Grid, offset: Grid) -> NDArray[Any]:
    """Adds the change by a gain and an offset of each cell to a result."""
    height, width = hazy.shape[:2]
    most = np.iinfo(hazy.dtype).max
    rows = len(gain)
    wide = [
        cv2.resize(one, (width, rows), interpolation=cv2.INTER_LINEAR) for one in (gain, offset)
    ]
    result = np.empty_like(dehazed)
    for top in range(0, height, _ROWS):
        strip = slice(top, min(top + _ROWS, height))
        place = ((np.arange(strip.start, strip.stop) + 0.5) * (rows / height) - 0.5).clip(
            0, rows - 1
        )
        above = place.astype(int)
        below = np.minimum(above + 1, rows - 1)
        share = (place - above).astype(np.float32)[:, None, None]
        of_gain, of_offset = (one[above] + share * (one[below] - one[above]) for one in wide)
        values = dehazed[strip] + (hazy[strip] * of_gain + np.float32(most) * of_offset)
        result[strip] = np.rint(values.clip(0, most))
    return result
