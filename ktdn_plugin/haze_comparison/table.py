"""The comparison's figures, and how they are printed."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.haze_statistics import HazeStatistics

KINDS = ("real", "made", "flat")
QUANTILES = (0.1, 0.5, 0.9)


class Measured:
    """Statistics of hazy images by kind (real, made, flat) and by the pair's group."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[HazeStatistics]] = defaultdict(list)

    def add(self, kind: str, group: str, statistics: HazeStatistics) -> None:
        """Adds a hazy image's statistics."""
        self._found[kind, group].append(statistics)

    @property
    def groups(self) -> list[str]:
        """The groups, sorted."""
        return sorted({group for _, group in self._found})

    def values(self, kind: str, field: str, group: str | None = None) -> NDArray[np.float64]:
        """All finite values of one statistic, of one group or of all."""
        found = [
            getattr(statistics, field)
            for (of, name), several in self._found.items()
            if of == kind and group in (None, name)
            for statistics in several
        ]
        values = np.array(found, np.float64)
        return values[np.isfinite(values)]


def format_table(measured: Measured, pairs: int, per_photo: int) -> str:
    """Words the quantiles of each statistic: real, made, and flat as a contrast."""
    wide = max(map(len, HazeStatistics._fields))
    head = "".join(f"   {kind:^20}" for kind in KINDS)
    share = "".join(f"{f'{100 * q:.0f} %':>7}" for q in QUANTILES)
    lines = [
        f"{pairs} real pairs; {per_photo} hazes made over each clear image; flat: without clouds",
        f"{'':{wide}}{head}".rstrip(),
        f"{'':{wide}}" + "".join(f"  {share}" for _ in KINDS),
    ]
    for field in HazeStatistics._fields:
        cells = ["".join(f"{v:7.2f}" for v in _quantiles(measured, kind, field)) for kind in KINDS]
        lines.append(f"{field:{wide}}" + "".join(f"  {cell}" for cell in cells))
    return "\n".join(lines)


def format_gaps(measured: Measured) -> str:
    """Words what is nan in the table; nothing where all is known."""
    gaps = [
        f"{field} ({', '.join(kinds)})"
        for field in HazeStatistics._fields
        if (kinds := [kind for kind in KINDS if not measured.values(kind, field).size])
    ]
    return f"nan where no pair tells, for want of haze or of details: {', '.join(gaps)}" * bool(
        gaps
    )


def format_groups(measured: Measured) -> str:
    """Words the medians of each group, real / made; nothing where there is one group only."""
    if len(measured.groups) < 2:
        return ""
    names = [f"{group or '(digits)'} ({_count(measured, group)})" for group in measured.groups]
    wide = max(map(len, names))
    lines = ["", "medians of each group, real / made"]
    lines.append(" " * wide + "".join(f"{field:>15}" for field in HazeStatistics._fields))
    for name, group in zip(names, measured.groups, strict=True):
        cells = []
        for field in HazeStatistics._fields:
            one, other = (_quantiles(measured, kind, field, group)[1] for kind in ("real", "made"))
            cells.append(f"{f'{one:.2f} / {other:.2f}':>15}")
        lines.append(f"{name:{wide}}" + "".join(cells))
    return "\n".join(lines)


def _count(measured: Measured, group: str) -> int:
    return len(measured.values("real", "brightness", group))


def _quantiles(
    measured: Measured, kind: str, field: str, group: str | None = None
) -> NDArray[np.float64]:
    values = measured.values(kind, field, group)
    if not values.size:
        return np.full(len(QUANTILES), np.nan)
    return np.asarray(np.quantile(values, QUANTILES))
