"""The photograph before and after, side by side at full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ktdn_plugin.sheets import INK, PAPER, Pixels

LEAST_TEXT = 17  # pixels
TEXT_SHARE = 1 / 35  # of the side of a square of equal area: legible when shown whole
GAP_SHARE = 0.6  # of the text size


def side_by_side(columns: Sequence[tuple[str, Pixels]]) -> Pixels:
    """Puts photographs of the same size side by side, each under its name.

    Args:
        columns: Names, and photographs (h, w, 3), RGB, 0 to 255.

    Returns:
        The picture, (H, W, 3), containing each photograph pixel for pixel.
    """
    height, width = columns[0][1].shape[:2]
    size = max(LEAST_TEXT, round((height * width) ** 0.5 * TEXT_SHARE))
    font = ImageFont.load_default(size)
    gap, header = round(size * GAP_SHARE), 2 * size
    cells = [max(width, int(np.ceil(font.getlength(name)))) for name, _ in columns]
    whole = np.empty((header + height + gap, sum(cells) + gap * (len(cells) + 1), 3), np.uint8)
    whole[:] = PAPER

    strip = Image.new("RGB", (whole.shape[1], header), PAPER)
    draw = ImageDraw.Draw(strip)
    left = gap
    for cell, (name, pixels) in zip(cells, columns, strict=True):
        draw.text((left + cell / 2, header / 2), name, INK, font, anchor="mm")
        start = left + (cell - width) // 2
        whole[header : header + height, start : start + width] = pixels
        left += cell + gap
    whole[:header] = np.asarray(strip)
    return whole
