"""The base layer of a large photograph's result, taken from a small copy of the photograph.

A network sees some hundred pixels around each. Of a large photograph that is a wall or a piece of
sky, of which nobody could tell how much of its brightness is haze; of a small copy it is the scene.
So what is larger than the copy's pixels comes from the copy, and the detail from the photograph
itself: two levels of a Laplacian pyramid (Burt and Adelson, 1983), each from where it is best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ktdn_plugin.inference.frames import Frames

STRIP = 256
"""Rows that are worked on at once, so that no floating-point copy of the whole is made."""

SMALLEST = 32
"""Least longer side of the copy, KTDN's own least."""


def small_size(height: int, width: int, longer_side: int) -> tuple[int, int]:
    """Returns the height and width of an image whose longer side is scaled to that many pixels."""
    scale = longer_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(read: Callable[[int, int], Tensor], height: int, size: tuple[int, int]) -> Tensor:
    """Returns images made smaller, with antialiasing.

    Args:
        read: Gives rows from one number to before another, (n, 3, ., w) of floating point.
        height: How many rows there are.
        size: Height and width to scale to, not above the images'.
    """
    # First the columns, some rows at a time, then the rows: antialiasing is separable.
    narrow = [
        F.interpolate(read(top, bottom), (bottom - top, size[1]), mode="bilinear", antialias=True)
        for top, bottom in _strips(height)
    ]
    return F.interpolate(torch.cat(narrow, dim=2), size, mode="bilinear", antialias=True)


def shrink_images(frames: Frames, size: tuple[int, int]) -> Tensor:
    """Returns the images that are to be dehazed, smaller, (n, 3, h, w) in [0, 1]."""
    return shrink(
        lambda top, bottom: frames.read(top, bottom)[..., : frames.width], frames.height, size
    )


def replace_base(frames: Frames, base: Tensor) -> None:
    """Gives results the base layer of smaller ones, and leaves them their detail.

    Args:
        frames: Images whose results are written.
        base: The results of smaller copies, (n, 3, h, w) in [0, 1].
    """
    rows = base.shape[2]
    change = base - shrink(frames.read_result, frames.height, (rows, base.shape[3]))
    for top, bottom in _strips(frames.height):
        # Bilinear interpolation of these rows alone, as F.interpolate does it for all.
        place = (torch.arange(top, bottom, device=base.device) + 0.5) * (rows / frames.height) - 0.5
        place = place.clamp_(0, rows - 1)
        above = place.long()
        below = (above + 1).clamp_(max=rows - 1)
        strip = torch.lerp(change[:, :, above], change[:, :, below], (place - above)[:, None])
        strip = F.interpolate(strip, (bottom - top, frames.width), mode="bilinear")
        frames.write_result(top, bottom, frames.read_result(top, bottom) + strip)


def _strips(height: int) -> Iterator[tuple[int, int]]:
    return ((top, min(top + STRIP, height)) for top in range(0, height, STRIP))
