"""What is known of a training run, whichever toolbox has logged it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ktdn_plugin.curves.thinning import Values
from ktdn_plugin.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER

Point = tuple[float, float]  # iteration and value
LARGEST = 1e100  # which no float32 reaches; what is beyond would overflow in the arithmetic here


@dataclass(frozen=True)
class Curve:
    """One figure over the iterations, thinned out for drawing.

    Attributes:
        x: Iterations, rising.
        y: Values; NaN where none is finite.
        highest: Highest of all finite values, thinned out or not; None where there is none.
        lowest: Lowest of these.
        last: Last of these.
        broken: First iteration whose value is NaN or infinite.
    """

    x: Values
    y: Values
    highest: Point | None
    lowest: Point | None
    last: Point | None
    broken: float | None


class Test(NamedTuple):
    """The figures of a test.

    Attributes:
        split: The name of the split; empty where it has none.
        images: Number of images, where it is known.
        figures: By the metric's name.
    """

    split: str
    images: int | None
    figures: dict[str, float]


@dataclass(frozen=True)
class Run:
    """What a training run has logged.

    Attributes:
        folder: The run's folder.
        losses: Training losses by their names.
        rates: Learning rates, one for each of the optimizer's groups of parameters.
        metrics: Validation figures by data set and name.
        teacher: The teacher's own figures on the same data.
        test: Its newest test's figures, where the test was in the run's own folder.
    """

    folder: Path
    losses: dict[str, Curve]
    rates: list[Curve]
    metrics: dict[tuple[str, str], Curve]
    teacher: dict[tuple[str, str], float]
    test: Test | None = None

    @property
    def has_curves(self) -> bool:
        """Whether it has logged a training."""
        return bool(self.losses or self.rates or self.metrics or self.teacher)


def direction(metric: str) -> int:
    """Returns whether higher values of a metric are better (1) or lower ones (-1); 0 if unknown."""
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    return 1 if words & HIGHER_IS_BETTER else -1 if words & LOWER_IS_BETTER else 0


def number_of(value: object) -> float | None:
    """Returns a logged value as a number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return math.inf if abs(value) > LARGEST else float(value)
