"""The enhancing module's pools, filled and read a few rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pool:
    """The enhancing module's averages over cells of one size, and their upsampling.

    Args:
        cell: Height and width of a cell in pixels.
        rows: The image's height.
        width: The image's width.
    """

    def __init__(self, cell: int, rows: int, width: int) -> None:
        self.cell = cell
        self.counts = rows // cell, width // cell
        self.sizes = rows, width
        self.values: Tensor | None = None

    def add(self, feature: Tensor, top: int, reduce: nn.Module) -> None:
        """Pools a stripe, which must start on a cell boundary."""
        if feature.shape[2] < self.cell:  # the remainder at the bottom is dropped
            return
        values = reduce(F.avg_pool2d(feature, self.cell))
        if self.values is None:
            n = len(values)
            self.values = values.new_empty((n, 1, *self.counts))
            self._indices = [
                nearest(count, size, values.device)
                for count, size in zip(self.counts, self.sizes, strict=True)
            ]
        at = top // self.cell
        self.values[:, :, at : at + values.shape[2]] = values

    def spread(self, top: int, bottom: int) -> Tensor:
        """Returns rows in which each pixel has its cell's value."""
        assert self.values is not None
        rows, columns = self._indices
        return self.values.index_select(2, rows[top:bottom]).index_select(3, columns)


def nearest(count: int, size: int, device: torch.device) -> Tensor:
    """Returns which of ``count`` cells nearest-neighbour upsampling picks at each position."""
    # Let torch itself tell, as it computes this in float32.
    cells = torch.arange(count, dtype=torch.float32).view(1, 1, count)
    return F.interpolate(cells, size=size, mode="nearest").view(size).to(device, torch.int64)
