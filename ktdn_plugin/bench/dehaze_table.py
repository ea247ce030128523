"""The dehazing benchmark's result, and how it is printed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from ktdn_plugin.inference.memory_sizes import format_memory
from ktdn_plugin.text_tables import table_lines

HEADINGS = ("size", "way", "bound", "s/image", "speed", "peak", "memory", "off", "PSNR to it")


@dataclass
class DehazeRow:
    """What was measured of one way.

    Attributes:
        size: Width and height.
        way: Its name.
        is_baseline: Whether the rows below, of this size, are compared with it.
        limit: Its memory bound in bytes.
        times: Seconds of each timed run.
        peak: Most bytes that it held.
        difference: Largest difference from the reference.
        psnr: In relation to the reference, in dB.
        error: Why it could not be measured, one line.
    """

    size: tuple[int, int]
    way: str
    is_baseline: bool = False
    limit: int | None = None
    times: list[float] = field(default_factory=list)
    peak: int | None = None
    difference: float | None = None
    psnr: float | None = None
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Median time of a run."""
        return statistics.median(self.times)


def format_rows(rows: Sequence[DehazeRow]) -> list[str]:
    """Formats rows as lines of a table; each is compared with its size's baseline above it."""
    cells = [[*HEADINGS, ""], *(_cells(row, _baseline(rows, row)) for row in rows)]
    return table_lines(cells, f"ll{'r' * (len(HEADINGS) - 2)}l")


def _baseline(rows: Sequence[DehazeRow], row: DehazeRow) -> DehazeRow | None:
    found = (one for one in rows if one.size == row.size and one.is_baseline)
    return next((one for one in found if one.error is None), None)


def _cells(row: DehazeRow, baseline: DehazeRow | None) -> tuple[str, ...]:
    name = (f"{row.size[0]} x {row.size[1]}", row.way)
    if row.error is not None:
        return (*name, *[""] * (len(HEADINGS) - len(name)), row.error)
    speed = memory = "-"
    if baseline is not None:
        speed = f"{baseline.seconds / row.seconds:.2f}x"
        if row.peak is not None and baseline.peak:
            memory = f"{row.peak / baseline.peak:.2f}x"
    psnr = "-"
    if row.psnr is not None:
        psnr = "equal" if math.isinf(row.psnr) else f"{row.psnr:.1f} dB"
    return (
        *name,
        "-" if row.limit is None else format_memory(row.limit),
        f"{row.seconds:.2f}",
        speed,
        "-" if row.peak is None else format_memory(row.peak),
        memory,
        "-" if row.difference is None else f"{row.difference:.1e}",
        psnr,
        "",
    )
