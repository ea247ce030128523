"""The base layer of a large photograph's result, taken from a small copy of the photograph.

A network sees some hundred pixels around each pixel. In a large photograph that is a wall or a
patch of sky, and nobody could tell how much of its brightness is haze; in a small copy it is the
scene. So the coarse content comes from the copy and the detail from the photograph: two
levels of a Laplacian pyramid (Burt and Adelson, 1983), each taken from where it is best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ktdn_plugin.inference.frames import Frames

STRIP = 256
"""Rows processed at once, to avoid a floating-point copy of the whole image."""


def shrink(read: Callable[[int, int], Tensor], height: int, size: tuple[int, int]) -> Tensor:
    """Downscales images with antialiasing.

    Args:
        read: Returns rows ``top`` up to but excluding ``bottom``, (n, 3, ., w), floating point.
        height: Number of rows.
        size: Height and width to scale to, at most the images' own.
    """
    # Columns first, a strip of rows at a time, then rows: the antialiasing filter is separable.
    narrow = [
        F.interpolate(read(top, bottom), (bottom - top, size[1]), mode="bilinear", antialias=True)
        for top, bottom in _strips(height)
    ]
    return F.interpolate(torch.cat(narrow, dim=2), size, mode="bilinear", antialias=True)


def shrink_images(frames: Frames, size: tuple[int, int]) -> Tensor:
    """Returns downscaled copies of the images to dehaze, (n, 3, h, w) in [0, 1]."""
    return shrink(
        lambda top, bottom: frames.read(top, bottom)[..., : frames.width], frames.height, size
    )


def replace_base(frames: Frames, base: Tensor) -> None:
    """Replaces the base layer of results with that of smaller results, keeping their detail.

    Args:
        frames: Images whose results have been written.
        base: The results for the small copies, (n, 3, h, w) in [0, 1].
    """
    rows = base.shape[2]
    change = base - shrink(frames.read_result, frames.height, (rows, base.shape[3]))
    for top, bottom in _strips(frames.height):
        # Bilinear interpolation of these rows only, matching F.interpolate over all of them.
        place = (torch.arange(top, bottom, device=base.device) + 0.5) * (rows / frames.height) - 0.5
        place = place.clamp_(0, rows - 1)
        above = place.long()
        below = (above + 1).clamp_(max=rows - 1)
        strip = torch.lerp(change[:, :, above], change[:, :, below], (place - above)[:, None])
        strip = F.interpolate(strip, (bottom - top, frames.width), mode="bilinear")
        frames.write_result(top, bottom, frames.read_result(top, bottom) + strip)


def _strips(height: int) -> Iterator[tuple[int, int]]:
    return ((top, min(top + STRIP, height)) for top in range(0, height, STRIP))
