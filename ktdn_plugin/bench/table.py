"""The benchmark's result, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ktdn_plugin.bench.variants import PLAIN
from ktdn_plugin.text_tables import table_lines

GIB = 2**30


@dataclass
class Row:
    """What was measured of one variant.

    Attributes:
        variant: Its name.
        batch_size: Images in a batch.
        times: Seconds of each timed step.
        peak: Peak memory in bytes, None where it is not known.
        losses: The first step's weighted losses by name.
        error: Why it could not be measured, one line.
    """

    variant: str
    batch_size: int
    times: list[float] = field(default_factory=list)
    peak: int | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Median time of a step."""
        return statistics.median(self.times)

    @property
    def images_per_second(self) -> float:
        """Images that are trained on in a second."""
        return self.batch_size / self.seconds

    def speed(self, plain: Row) -> float:
        """How many times as fast as the plain step."""
        return plain.seconds / self.seconds

    def difference(self, plain: Row) -> float:
        """The largest difference of a loss of the first step from the plain step's."""
        return max(abs(value - plain.losses[name]) for name, value in self.losses.items())


HEADINGS = (
    "variant", "ms/step", "images/s", "speed", "peak GiB", "memory", "first loss", "off plain"
)  # fmt: skip


def format_table(rows: Sequence[Row]) -> list[str]:
    """Formats rows as lines of a table; the others are compared with ``plain``, which is there.

    ``off plain`` is the largest difference of one of the first step's losses: it shows a variant
    that computes something else.
    """
    plain = next(row for row in rows if row.variant == PLAIN)
    return table_lines(
        [
            [*HEADINGS, ""],
            *(
                [*_cells(row, plain), ""]
                if row.error is None
                else [row.variant, *[""] * (len(HEADINGS) - 1), f"failed: {row.error}"]
                for row in rows
            ),
        ],
        f"l{'r' * (len(HEADINGS) - 1)}l",
    )


def _cells(row: Row, plain: Row) -> tuple[str, ...]:
    memory = ("-", "-")
    if row.peak is not None and plain.peak:
        memory = (f"{row.peak / GIB:.2f}", f"{row.peak / plain.peak:.2f}x")
    return (
        row.variant,
        f"{1000 * row.seconds:.1f}",
        f"{row.images_per_second:.2f}",
        f"{row.speed(plain):.2f}x",
        *memory,
        f"{sum(row.losses.values()):.5f}",
        f"{row.difference(plain):.1e}",
    )
