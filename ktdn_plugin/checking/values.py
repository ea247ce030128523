"""Values that no photograph has, or that hint at a wrong conversion."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.findings import Finding
from ktdn_plugin.scenes.names import Side

FULL = 255
OUTLIERS = 0.001  # share of values at either end that says nothing, such as a dead pixel

ONE_COLOUR = 3  # range that noise and compression give to an image of one colour
SMALLEST_RANGE = {"hazy": 16, "clear": 48}  # densest real haze seen: 41; flattest clear image: 172
BLACK = 32  # 16 bits of linear light squeezed into 8 rarely reach it
MOST_CLIPPED = 0.5  # a snow-white sky may well be a third of a good photograph


@dataclass(frozen=True)
class Values:
    """What values an image has, over its three channels together.

    Attributes:
        low: Lowest, but for ``OUTLIERS``.
        high: Highest, but for ``OUTLIERS``.
        at_zero: Share that is exactly 0.
        at_full: Share that is exactly 255.
    """

    low: int
    high: int
    at_zero: float
    at_full: float

    @property
    def is_one_colour(self) -> bool:
        """Returns whether an image has no content."""
        return self.high - self.low <= ONE_COLOUR


def values_of(rgb: NDArray[np.uint8]) -> Values:
    """Counts an image's values.

    Args:
        rgb: (h, w, 3), uint8.
    """
    flat = np.ascontiguousarray(rgb).reshape(rgb.shape[0], -1)
    shares = cv2.calcHist([flat], [0], None, [FULL + 1], [0, FULL + 1]).ravel() / flat.size
    below = np.cumsum(shares, dtype=np.float64)
    low, high = (int(np.searchsorted(below, share)) for share in (OUTLIERS, 1 - OUTLIERS))
    return Values(low, min(high, FULL), float(shares[0]), float(shares[FULL]))


def judge_values(values: Values, side: Side, name: str) -> list[Finding]:
    """Returns what is suspicious about an image's values; at most one thing, the gravest.

    Args:
        values: The image's.
        side: A hazy image may have less contrast than a clear one.
        name: What to call it.
    """
    span = f"{values.low} to {values.high} of {FULL}"
    if values.is_one_colour and not _is_clipped(values):
        return [Finding("values", "error", f"{name}: a single colour, values {span}; remove it")]
    if _is_clipped(values):
        end, share = (
            ("black (0)", values.at_zero)
            if values.at_zero > values.at_full
            else (f"white ({FULL})", values.at_full)
        )
        if values.is_one_colour:
            return [Finding("values", "error", f"{name}: entirely {end}; remove it")]
        text = f"{name}: {share:.0%} of it is exactly {end}; check whether it was converted wrongly"
        return [Finding("values", "warning", text)]
    if values.high < BLACK:
        text = (
            f"{name}: nearly black, values {span}; if it comes from linear 16-bit data, "
            "convert it again with a gamma curve"
        )
        return [Finding("values", "warning", text)]
    if values.high - values.low < SMALLEST_RANGE[side]:
        text = (
            f"{name}: uses only a small part of the range, {span}; check whether it is a photograph"
        )
        return [Finding("values", "warning", text)]
    return []


def _is_clipped(values: Values) -> bool:
    return max(values.at_zero, values.at_full) > MOST_CLIPPED
