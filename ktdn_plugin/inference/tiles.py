"""Overlapping tiles, for networks that are not KTDN.

A tile sees its part of the image alone: what a network makes of the whole image, such as the
averages of channel attention, differs from tile to tile. KTDN itself runs exactly, see
:mod:`~ktdn_plugin.inference.engine`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.frames import Frames


def run_frames(network: nn.Module, frames: Frames, tile: int | None, overlap: int) -> Tensor:
    """Runs a network on images, in its own format, see :func:`run_in_tiles`.

    Args:
        network: Maps images (n, 3, h, w) in [0, 1] to such images; on the frames' device.
        frames: The images; their result is not written.
        tile: Height and width of a tile; None runs the network on the whole.
        overlap: Pixels that neighbouring tiles share.

    Returns:
        Images (n, 3, h, w), float32, without padding.
    """
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    height, width = frames.height, frames.width
    image = frames.read(0, frames.size[0])[:, :, :height, :width].to(dtype)
    return run_in_tiles(network, image, tile or max(height, width), overlap if tile else 0)


def run_in_tiles(
    network: Callable[[Tensor], Tensor], image: Tensor, tile: int, overlap: int
) -> Tensor:
    """Runs a network on overlapping tiles, and blends them where they overlap.

    Args:
        network: Maps images (n, 3, h, w) to images of the same shape.
        image: Images (n, 3, h, w).
        tile: Height and width of a tile in pixels, the overlap included. Tiles at the edges are
            moved inwards to be whole; an image that is no larger is one tile.
        overlap: Pixels that neighbours share, less than half of a tile. Weights rise linearly
            over it, from one tile to the other.

    Returns:
        Images (n, 3, h, w), float32.

    Raises:
        KTDNError: If tile and overlap do not go together, or the network changes the size.
    """
    check_tile(tile, overlap)
    height, width = image.shape[2:]
    result = torch.zeros(image.shape, dtype=torch.float32, device=image.device)
    total = torch.zeros((1, 1, height, width), dtype=torch.float32, device=image.device)
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            here = slice(top, min(top + tile, height)), slice(left, min(left + tile, width))
            piece = image[:, :, here[0], here[1]]
            made = network(piece)
            if not isinstance(made, Tensor):
                raise KTDNError(
                    f"this network makes a {type(made).__name__} of an image; tiles need one that "
                    "makes an image (n, 3, h, w)"
                )
            if made.shape != piece.shape:
                raise KTDNError(
                    f"this network makes {tuple(made.shape)} of {tuple(piece.shape)}; tiles need "
                    "one that keeps the size"
                )
            weight = _ramp(here[0], height, overlap)[:, None] * _ramp(here[1], width, overlap)
            weight = weight.to(image.device)
            result[:, :, here[0], here[1]] += made.float() * weight
            total[:, :, here[0], here[1]] += weight
    return result.div_(total)


def check_tile(tile: int, overlap: int) -> None:
    """Makes sure that a tile's size and its overlap go together.

    Raises:
        KTDNError: If they do not.
    """
    if tile < 1 or not 0 <= overlap < (tile + 1) // 2:
        raise KTDNError(
            f"tile: {tile} pixels with an overlap of {overlap} do not go together; the overlap is "
            "0 or more, and less than half of the tile"
        )


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def _ramp(part: slice, size: int, overlap: int) -> Tensor:
    """Gives the weights along an axis: full at the image's edge, low at an inner one."""
    places = torch.arange(part.start, part.stop, dtype=torch.float32)
    ones = torch.full_like(places, float(overlap + 1))
    up = places - part.start + 1 if part.start > 0 else ones
    down = part.stop - places if part.stop < size else ones
    return torch.minimum(torch.minimum(up, down), ones) / (overlap + 1)
