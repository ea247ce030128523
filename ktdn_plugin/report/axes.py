"""Axes of a chart: where values come to lie, and which of them are labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LOGARITHMIC_FROM = 8.0  # times the smallest value; below, equal steps are easier to read
_STEPS = (1, 2, 2.5, 5, 10)


class Axis(NamedTuple):
    """A scale between two ends, onto [0, 1].

    Attributes:
        low: Value at 0.
        high: Value at 1.
        ticks: Values that are labelled.
        is_log: Whether equal lengths are equal ratios.
    """

    low: float
    high: float
    ticks: list[float]
    is_log: bool = False

    def at(self, value: float) -> float:
        """Returns a value's place."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(values: Sequence[float], ticks: int = 4, whole: bool = False) -> Axis:
    """Makes an axis of equal steps that has all values on it.

    Args:
        values: At least one, all finite.
        ticks: Number of labels to aim at.
        whole: Whether only whole numbers are labelled.
    """
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = _nice_step((high - low) / ticks, whole)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, [step * n for n in range(first, last + 1)])


def log_axis(values: Sequence[float]) -> Axis:
    """Makes an axis of equal ratios that has all values on it.

    Args:
        values: At least two different ones, all positive and finite.
    """
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 200 * low else (1,)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    inner = [tick for tick in ticks if low <= tick <= high]
    every = -(-len(inner) // 5) or 1
    return Axis(low, high, inner[::every], is_log=True)


def _nice_step(least: float, whole: bool) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    step = next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9))
    return max(1.0, float(math.ceil(step))) if whole else step


def short(value: float) -> str:
    """Writes a tick's value in few characters: ``0.02``, ``1e-6``, ``20k``."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        if size >= 1e6 and size < 1e9:
            return f"{value / 1e6:.4g}M"
        return f"{float(digits):g}e{int(power)}"
    return f"{value / 1e3:.4g}k" if size >= 1e4 else f"{value:.4g}"
