"""Running local parts of a network on stripes of rows, exactly.

A part is local if each row of its output depends on only a few rows of its input. Run on a stripe
with that many extra rows on either side, which are then cut off, it gives the same as on the whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ktdn_plugin.errors import is_out_of_memory
from ktdn_plugin.inference.devices import computing

Rows = Callable[[int, int], Tensor]
"""Returns rows ``top`` up to but excluding ``bottom`` of a feature or image, (n, c, ., w)."""

PROBE_COLUMNS = 4  # of the output
PROBE_ROWS = (64, 192, 512)  # of the output, tried in order
TOLERANCE = 1e-4

_skips_middle = ContextVar("_skips_middle", default=False)


@dataclass(frozen=True)
class Halo:
    """The extent of a local part's receptive field.

    Attributes:
        stride: Input rows per output row.
        above: Input rows that an output row needs above its own, a multiple of the stride.
        below: Input rows that it needs below its own, also a multiple of the stride.
    """

    stride: int
    above: int
    below: int


def stripes(rows: int, height: int) -> Iterator[tuple[int, int]]:
    """Cuts rows into stripes from top to bottom; the last one may be shorter."""
    tops: Sequence[int] = range(0, rows, height)
    if _skips_middle.get() and len(tops) > 5:
        tops = [*tops[:3], *tops[-2:]]
    for top in tops:
        yield top, min(top + height, rows)


@contextmanager
def skipping_middle_stripes() -> Iterator[None]:
    """Lets :func:`stripes` skip those that take as much memory as the third, for a rehearsal."""
    token = _skips_middle.set(True)
    try:
        yield
    finally:
        _skips_middle.reset(token)


def find_halo(part: nn.Module, channels: int, stride: int) -> Halo | None:
    """Determines the extent of a part's receptive field by probing.

    One input row is set to NaN: output rows that become NaN depend on it. What this cannot detect
    (a part that depends on the position in the image) is found by comparing a striped result with
    that of the whole.

    Args:
        part: Maps (n, channels, h, w) to (n, c, h / stride, w / stride).
        channels: Channels of its input.
        stride: Its stride.

    Returns:
        The halo; None if the part is global, looks at more than a third of ``PROBE_ROWS[-1]``
        rows, depends on the position in the image, overwrites its input, or does not take images
        of every size.
    """
    reference = next(part.parameters())
    if reference.dtype != torch.float32:  # whose rounding would hide differences
        part = copy.deepcopy(part).float()
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randn(1, channels, rows * stride, PROBE_COLUMNS * stride, generator=generator)
        for rows in PROBE_ROWS
    ]
    with computing("float32"):
        largest = images[-1].to(reference.device)
        try:
            for image in images:
                halo = _look(part, image.to(reference.device), stride)
                # The largest also reveals what reaches beyond a smaller one's edges.
                if halo is not None and _is_exact(part, largest, halo):
                    return halo
        except (RuntimeError, AssertionError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            # It needs images of a certain size, which stripes do not have.
            return None
    return None


def _look(part: nn.Module, image: Tensor, stride: int) -> Halo | None:
    """Returns the halo, None if it is wider than a third of the image."""
    middle = image.shape[2] // stride // 2 * stride
    above = below = 0
    for row in range(middle, middle + stride):
        poisoned = image.clone()
        poisoned[:, :, row] = float("nan")
        seen = part(poisoned).isnan().any(dim=3).any(dim=1)[0].nonzero().flatten()
        if not len(seen):
            continue
        first, last = int(seen[0]), int(seen[-1])
        above = max(above, last * stride - row)
        below = max(below, row - (first * stride + stride - 1))
        if max(above, below) > image.shape[2] // 3:
            return None
    return Halo(stride, -(-above // stride) * stride, -(-below // stride) * stride)


def _is_exact(part: nn.Module, image: Tensor, halo: Halo) -> bool:
    # A part that overwrites its input would corrupt rows that neighbouring stripes share.
    whole = part(image.clone())
    rows = whole.shape[2]
    striped = run_striped(part, lambda a, b: image[:, :, a:b], rows, rows // 3, halo)
    error = (striped - whole).abs().max() / whole.abs().max().clamp_min(1e-12)
    return bool(error <= TOLERANCE)


def run_striped(part: nn.Module, rows_of: Rows, rows: int, height: int, halo: Halo) -> Tensor:
    """Runs a local part stripe by stripe.

    Args:
        part: Maps (n, c, h, w) to (n, c', h / stride, w / stride).
        rows_of: Returns rows of its input.
        rows: Rows of the whole output.
        height: Output rows per stripe.
        halo: The extent of the part's receptive field.

    Returns:
        The whole output, as the part gives it for the whole input.
    """
    result: Tensor | None = None
    for top, bottom in stripes(rows, height):
        piece = run_stripe(part, rows_of, rows, top, bottom, halo)
        if (top, bottom) == (0, rows):
            return piece
        if result is None:
            result = empty(piece, rows)
        result[:, :, top:bottom] = piece
        del piece
    assert result is not None
    return result


def run_stripe(
    part: nn.Module, rows_of: Rows, rows: int, top: int, bottom: int, halo: Halo
) -> Tensor:
    """Returns rows ``top`` up to but excluding ``bottom`` of a local part's output.

    Args:
        part: As for :func:`run_striped`, like the others.
        rows_of: Returns rows of its input.
        rows: Rows of the whole output.
        top: The first row.
        bottom: The row after the last one.
        halo: The extent of the part's receptive field.
    """
    first = max(top * halo.stride - halo.above, 0)
    last = min(bottom * halo.stride + halo.below, rows * halo.stride)
    piece = part(rows_of(first, last))
    skipped = top - first // halo.stride
    return piece[:, :, skipped : skipped + bottom - top]


def empty(like: Tensor, rows: int) -> Tensor:
    """Returns an uninitialised feature like another, with the given rows, channels last."""
    n, channels, _, width = like.shape
    return torch.empty(
        (n, channels, rows, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )
