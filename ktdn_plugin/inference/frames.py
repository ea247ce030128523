"""Images on their way into a network and out of it again, some rows at a time.

Nothing here makes a floating-point copy of a whole image: an 8K photograph stays as it is, and its
result is written where it belongs as it comes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktdn_plugin.archs.ktdn_arch import MINIMUM, MULTIPLE

LARGEST = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The value that is 1.0 to the network, by the arrays' types."""


class Frames:
    """Images to dehaze, padded as :func:`~ktdn_plugin.archs.ktdn_arch.pad_to_multiple` does.

    Args:
        images: An array (n, h, w, 3) of uint8, uint16 or float32 in [0, 1], or a tensor
            (n, 3, h, w) of floating point in [0, 1].
        device: Where the network is.

    Attributes:
        size: Height and width with the padding.
        result: What :meth:`write` has written; of the images' kind, type and shape.
    """

    def __init__(self, images: NDArray[Any] | Tensor, device: torch.device) -> None:
        self.images = images
        self.device = device
        self.result: Any
        if isinstance(images, Tensor):
            self.height, self.width = images.shape[2:]
            self.result = torch.empty_like(images, memory_format=torch.contiguous_format)
        else:
            self.height, self.width = images.shape[1:3]
            self.result = np.empty(images.shape, images.dtype)
        self._rows, self._columns = padding(self.height), padding(self.width)
        self.size = len(self._rows), len(self._columns)

    def read(self, top: int, bottom: int) -> Tensor:
        """Gives rows of the padded images, (n, 3, bottom - top, W), float32 in [0, 1]."""
        if isinstance(self.images, Tensor):
            part = self._cut(self.images, top, bottom, 2)
            return part.to(self.device, torch.float32)
        part = torch.from_numpy(self._cut(self.images, top, bottom, 1))
        # The device gets the small numbers, and makes floating point of them.
        values = part.to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        return values / LARGEST[self.images.dtype.name]

    def _cut(self, images: Any, top: int, bottom: int, axis: int) -> Any:
        before = (slice(None),) * axis
        whole = bottom <= self.height
        part = images[(*before, slice(top, bottom) if whole else self._rows[top:bottom])]
        if self.size[1] != self.width:
            part = part[(*before, slice(None), self._columns)]
        return np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part

    def write(self, top: int, bottom: int, values: Tensor) -> None:
        """Takes rows of the result (n, 3, bottom - top, W); clamps, and rounds where it has to."""
        bottom = min(bottom, self.height)
        if top >= bottom:
            return
        values = values[:, :, : bottom - top, : self.width].float().clamp_(0, 1)
        if isinstance(self.result, Tensor):
            self.result[:, :, top:bottom] = values
            return
        largest = LARGEST[self.result.dtype.name]
        if largest > 1:
            values = values.mul_(largest).round_()
            # torch has few operations on 16 bit without sign; int32 holds both.
            values = values.to(torch.uint8 if largest < 256 else torch.int32)
        self.result[:, top:bottom] = values.permute(0, 2, 3, 1).cpu().numpy()


def padding(size: int) -> NDArray[np.int64]:
    """Tells which pixel each position of a padded axis shows.

    As :func:`~ktdn_plugin.archs.ktdn_arch.pad_to_multiple` pads: reflected at the end, or its last
    pixel repeated where the axis is too short for that.
    """
    wanted = max(-(-size // MULTIPLE) * MULTIPLE, MINIMUM)
    positions = np.arange(wanted)
    if wanted - size < size:
        return np.where(positions < size, positions, 2 * (size - 1) - positions)
    return np.minimum(positions, size - 1)
