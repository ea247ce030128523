"""Pictures for people: sheets that put images side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ktdn_plugin.errors import printable

Pixels = NDArray[np.uint8]
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

PAPER = (246, 246, 246)  # neutral, and not white, so that bright haze does not run into it
INK = (32, 32, 32)
TEXT_SIZE = 17
HEADER_SIZE = 20
LINE = 1.5  # line height relative to the text's size
GAP = 12  # pixels between cells and around the sheet


def comparison_sheet(
    rows: Sequence[Sequence[tuple[Pixels, str]]],
    columns: Sequence[str] = ("hazy", "dehazed", "clear"),
    *,
    max_cell_width: int = 480,
) -> Pixels:
    """Lays out images in rows and named columns, each with a caption under it.

    The images of a row are brought to one height. Large ones are made smaller to fit; none is
    enlarged beyond the tallest of its row.

    Args:
        rows: Each a sequence of ``(image, caption)``, one for each column: the image (h, w, 3)
            uint8 RGB of any size, the caption one line such as ``"hazy  12.31 dB / 0.612"``, or
            empty. Captions wider than ``max_cell_width`` end in dots.
        columns: The columns' names, from left to right.
        max_cell_width: Widest that an image is shown, in pixels, 32 or more.

    Returns:
        The sheet, (H, W, 3) uint8 RGB.

    Raises:
        ValueError: There is no row or no column, a row has another number of images than there
            are columns, an image has no fitting shape, or ``max_cell_width`` is below 32.
        TypeError: An image is no uint8 array.
    """
    if not rows or not columns:
        raise ValueError("a comparison sheet needs at least one row and one column")
    if max_cell_width < 32:
        raise ValueError(f"max_cell_width must be 32 or more, got {max_cell_width}")
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"row {number} has {len(row)} images for {len(columns)} columns")

    header_font, font = (ImageFont.load_default(size) for size in (HEADER_SIZE, TEXT_SIZE))
    names = [_shortened(printable(name), header_font, max_cell_width) for name in columns]
    captions = [
        [_shortened(printable(text), font, max_cell_width) for _, text in row] for row in rows
    ]
    images = [_equally_tall([image for image, _ in row], max_cell_width) for row in rows]

    header, line = round(HEADER_SIZE * LINE), round(TEXT_SIZE * LINE)
    widths = [
        max(
            _width(name, header_font),
            *(row[column].width for row in images),
            *(_width(row[column], font) for row in captions),
        )
        for column, name in enumerate(names)
    ]
    lefts = [GAP + sum(widths[:column]) + column * GAP for column in range(len(names))]
    width = sum(widths) + GAP * (len(widths) + 1)
    height = GAP + header + sum(row[0].height + line + GAP for row in images)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)

    for left, cell, name in zip(lefts, widths, names, strict=True):
        draw.text((left + cell / 2, GAP + header / 2), name, INK, header_font, anchor="mm")
    top = GAP + header
    for pictures, texts in zip(images, captions, strict=True):
        below = top + pictures[0].height
        for left, cell, picture, text in zip(lefts, widths, pictures, texts, strict=True):
            sheet.paste(picture, (left + (cell - picture.width) // 2, top))
            draw.text((left + cell / 2, below + line / 2), text, INK, font, anchor="mm")
        top = below + line + GAP
    return np.array(sheet)


def _as_picture(rgb: Pixels) -> Image.Image:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        kind = rgb.dtype if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise TypeError(f"an image must be a uint8 array, got {kind}")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"an image must have shape (height, width, 3), got {rgb.shape}")
    return Image.fromarray(np.ascontiguousarray(rgb))


def _equally_tall(arrays: Sequence[Pixels], max_width: int) -> list[Image.Image]:
    pictures = [_as_picture(array) for array in arrays]
    height = max(picture.height for picture in pictures)
    for picture in pictures:
        height = min(height, max(1, max_width * picture.height // picture.width))
    widths = [round(p.width * height / p.height) for p in pictures]
    # One pixel and the cell bound the shape of what is hundreds of times longer than it is wide.
    sizes = [(min(max(1, width), max_width), height) for width in widths]
    return [
        p if p.size == size else p.resize(size, Image.Resampling.LANCZOS)
        for p, size in zip(pictures, sizes, strict=True)
    ]


def _width(text: str, font: Font) -> int:
    return int(np.ceil(font.getlength(text)))


def _shortened(text: str, font: Font, room: int) -> str:
    text = " ".join(text.splitlines())
    if _width(text, font) <= room:
        return text
    while text and _width(text + "...", font) > room:
        text = text[:-1]
    return text + "..."
