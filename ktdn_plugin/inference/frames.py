"""Feeds images to a network and collects its results, a few rows at a time.

Nothing here makes a floating-point copy of a whole image: an 8K photograph keeps its own format,
and its result is written into place as it is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktdn_plugin.archs.ktdn_arch import MINIMUM, MULTIPLE
from ktdn_plugin.inference.images import LARGEST


class Frames:
    """Images to dehaze, padded as :func:`~ktdn_plugin.archs.ktdn_arch.pad_to_multiple` does.

    Args:
        images: An array (n, h, w, 3) of uint8, uint16 or float32 in [0, 1], or a floating-point
            tensor (n, 3, h, w) in [0, 1].
        device: The network's device.
        strength: How much of the network's change :meth:`write` applies: 0 none, 1 all; larger
            values extrapolate.

    Attributes:
        size: Height and width including the padding.
        result: What :meth:`write` has written; same kind, type and shape as the images.
    """

    def __init__(
        self, images: NDArray[Any] | Tensor, device: torch.device, strength: float = 1.0
    ) -> None:
        self.images = images.detach() if isinstance(images, Tensor) else images
        self.device = device
        self.strength = strength
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
        """Returns rows of the padded images, (n, 3, bottom - top, W), float32 in [0, 1].

        They may share the caller's memory, so they must not be modified.
        """
        axis = 2 if isinstance(self.images, Tensor) else 1
        return self._to_float(self._cut(self.images, top, bottom, axis))

    def read_result(self, top: int, bottom: int) -> Tensor:
        """Returns rows of the written result, (n, 3, bottom - top, w), float32 in [0, 1]."""
        rows = slice(top, bottom)
        is_tensor = isinstance(self.result, Tensor)
        return self._to_float(self.result[:, :, rows] if is_tensor else self.result[:, rows])

    def _to_float(self, part: Any) -> Tensor:
        if isinstance(part, Tensor):
            return part.to(self.device, torch.float32)
        # torch takes neither a foreign byte order (16-bit files) nor read-only memory (PIL).
        part = np.require(part, part.dtype.newbyteorder("="), ["C", "W"])
        # Transfer the compact integers, and convert to floating point on the device.
        values = torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        largest = LARGEST[part.dtype.name]
        # Images that are already floating point may still share the caller's memory.
        return values.div_(largest) if largest > 1 else values

    def _cut(self, images: Any, top: int, bottom: int, axis: int) -> Any:
        before = (slice(None),) * axis
        whole = bottom <= self.height
        part = images[(*before, slice(top, bottom) if whole else self._rows[top:bottom])]
        if self.size[1] != self.width:
            part = part[(*before, slice(None), self._columns)]
        return part

    def write(self, top: int, bottom: int, values: Tensor) -> None:
        """Writes rows of the network's output (n, 3, bottom - top, W), clamped and rounded."""
        bottom = min(bottom, self.height)
        if top >= bottom:
            return
        values = values[:, :, : bottom - top, : self.width].float()
        if self.strength != 1:
            # Before clamping, which would cut off part of the change to be scaled.
            hazy = self.read(top, bottom)[..., : self.width]
            values = torch.lerp(hazy, values, self.strength)
        self.write_result(top, bottom, values)

    def write_result(self, top: int, bottom: int, values: Tensor) -> None:
        """Writes final rows of the result, (n, 3, bottom - top, w), float32.

        The rows are modified in place.
        """
        values = values.clamp_(0, 1)
        if isinstance(self.result, Tensor):
            self.result[:, :, top:bottom] = values
            return
        largest = LARGEST[self.result.dtype.name]
        if largest > 1:
            values = values.mul_(largest).round_()
            # torch supports few operations on uint16; int32 holds its range.
            values = values.to(torch.uint8 if largest < 256 else torch.int32)
        self.result[:, top:bottom] = values.permute(0, 2, 3, 1).cpu().numpy()


def padding(size: int) -> NDArray[np.int64]:
    """Returns the source pixel of each position along a padded axis.

    Padding follows :func:`~ktdn_plugin.archs.ktdn_arch.pad_to_multiple`: reflected at the end, or
    with the last pixel repeated if the axis is too short for that.
    """
    wanted = max(-(-size // MULTIPLE) * MULTIPLE, MINIMUM)
    positions = np.arange(wanted)
    if wanted - size < size:
        return np.where(positions < size, positions, 2 * (size - 1) - positions)
    return np.minimum(positions, size - 1)
