"""How close hazy and dehazed photographs are to the ground truth, on screen and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ktdn_plugin.csv_files import write_csv
from ktdn_plugin.metrics import UNNAMED_SPLIT, Measured
from ktdn_plugin.text_tables import table_lines

COLUMNS = ("split", "image", "hazy_psnr", "hazy_ssim", "dehazed_psnr", "dehazed_ssim")


class Row(NamedTuple):
    """A photograph's figures before and after dehazing."""

    split: str
    name: str
    hazy: Measured
    dehazed: Measured


def with_means(rows: Sequence[Row]) -> list[Row]:
    """Appends to each split's rows their mean, as figures of different splits do not compare."""
    found = []
    for split in dict.fromkeys(row.split for row in rows):
        of_split = [row for row in rows if row.split == split]
        hazy, dehazed = (
            Measured(*(float(value) for value in np.mean(values, axis=0)))
            for values in ([row.hazy for row in of_split], [row.dehazed for row in of_split])
        )
        found += [*of_split, Row(split, "mean", hazy, dehazed)]
    return found


def format_table(rows: Sequence[Row]) -> list[str]:
    """Formats the table for a terminal, with one part per split.

    Args:
        rows: The rows, including their means.
    """
    cells = [(row.name, *(one.text() for one in (row.hazy, row.dehazed))) for row in rows]
    head, *body = table_lines([("image", "hazy PSNR / SSIM", "dehazed PSNR / SSIM"), *cells])
    lines = []
    for split in dict.fromkeys(row.split for row in rows):
        lines += [f"split: {split}" if split else UNNAMED_SPLIT, head]
        lines += [line for line, row in zip(body, rows, strict=True) if row.split == split]
    return lines


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Writes the table as CSV, atomically.

    Args:
        path: The file; its folder must exist.
        rows: The rows, including their means.

    Raises:
        KTDNError: If it cannot be written.
    """
    lines = [
        (row.split or UNNAMED_SPLIT, row.name, *(f"{v:.4f}" for v in (*row.hazy, *row.dehazed)))
        for row in rows
    ]
    write_csv(path, [COLUMNS, *lines])
