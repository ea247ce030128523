"""A contact sheet of training samples: inputs and targets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import to_rgb8
from ktdn_plugin.photos import format_of, write_rgb
from ktdn_plugin.sheets import PAPER, Pixels, comparison_sheet

COUNT = 24
MOST = 400
PAIRS = 4  # beside each other
CELL = 256


class TrainingSample(NamedTuple):
    """A sample as a training step gets it.

    Attributes:
        hazy: (3, h, w) RGB in [0, 1].
        clear: Alike.
        name: The clear image's name.
    """

    hazy: Tensor
    clear: Tensor
    name: str


def write_sample_sheet(
    samples: Iterator[TrainingSample], output: Path, count: int = COUNT, overwrite: bool = False
) -> None:
    """Draws training samples, hazy beside clear, from left to right and top to bottom.

    Args:
        samples: The samples; the first ones are taken, once nothing is wrong with the rest.
        output: The picture, an image file of a format that is written.
        count: How many, from 1 to 400.
        overwrite: Whether a file that exists may be replaced.

    Raises:
        KTDNError: The number or the name does not fit, the file exists or cannot be written, or a
            sample cannot be read.
    """
    if not 1 <= count <= MOST:
        raise KTDNError(f"--count {count}: must lie in [1, {MOST}]")
    format_of(output)
    if output.exists() and not overwrite:
        raise KTDNError(f"{output}: exists; --overwrite replaces it")
    cells: list[tuple[Pixels, str]] = []
    for sample in itertools.islice(samples, count):
        cells += [(to_rgb8(sample.hazy), Path(sample.name).stem), (to_rgb8(sample.clear), "")]
    width = 2 * min(PAIRS, count)
    nothing = np.full((1, 1, 3), PAPER, np.uint8), ""
    cells += [nothing] * (-len(cells) % width)
    rows = [cells[first : first + width] for first in range(0, len(cells), width)]
    columns = ("hazy", "clear") * (width // 2)
    write_rgb(output, comparison_sheet(rows, columns, max_cell_width=CELL))
