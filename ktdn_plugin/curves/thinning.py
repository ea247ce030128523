"""Making long curves short enough to draw, and noisy ones easy to follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

MOST_POINTS = 1000  # of a curve; a panel is narrower than that in pixels


def thin(x: Values, y: Values, most: int = MOST_POINTS) -> tuple[Values, Values]:
    """Puts means in the place of neighbouring points where there are many.

    The first and the last point stay as they are; the bins between hold equally many points, but
    for one.

    Args:
        x: Iterations.
        y: As many values. What is not finite is left out of the means.
        most: Number of points to keep, at least 3.

    Returns:
        Iterations and values; NaN where a bin has no finite value.

    Raises:
        ValueError: ``most`` is below 3.
    """
    if most < 3:
        raise ValueError(f"most must be 3 or more, got {most}")
    finite = np.isfinite(y)
    if len(x) <= most:
        return x, np.where(finite, y, np.nan)
    starts = np.array([0, *np.linspace(1, len(x) - 1, most - 1).astype(int)])
    sizes = np.diff(starts, append=len(x))
    counts = np.add.reduceat(finite, starts, dtype=float)
    sums = np.add.reduceat(np.where(finite, y, 0), starts)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return np.add.reduceat(x, starts) / sizes, means


def moving_average(y: Values) -> Values:
    """Averages over a twentieth of the points around each, at both ends over those there are.

    Where a value is NaN, so is the average; others leave it out.
    """
    reach = max(1, len(y) // 40)
    averages = np.full(len(y), np.nan)
    for i, value in enumerate(y):
        if not np.isnan(value):
            averages[i] = np.nanmean(y[max(0, i - reach) : i + reach + 1])
    return averages
