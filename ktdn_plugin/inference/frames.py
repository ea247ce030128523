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
from ktdn_plugin.errors import KTDNError

LARGEST = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The value that is 1.0 to the network, by the arrays' types."""

BEYOND = 1.0
"""How far beyond [0, 1] floating point may reach before it is no mistake of rounding."""


class Frames:
    """Images to dehaze, padded as :func:`~ktdn_plugin.archs.ktdn_arch.pad_to_multiple` does.

    Args:
        images: An array (n, h, w, 3) of uint8, uint16 or float32 in [0, 1], or a tensor
            (n, 3, h, w) of floating point in [0, 1].
        device: Where the network is.
        strength: How much of the network's change :meth:`write` applies: 0 none, 1 all, more
            extrapolates.

    Attributes:
        size: Height and width with the padding.
        result: What :meth:`write` has written; of the images' kind, type and shape.
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

        They may be the caller's own memory: to be read alone.
        """
        axis = 2 if isinstance(self.images, Tensor) else 1
        return self._to_float(self._cut(self.images, top, bottom, axis))

    def read_result(self, top: int, bottom: int) -> Tensor:
        """Returns rows of what is written, (n, 3, bottom - top, w), float32 in [0, 1]."""
        rows = slice(top, bottom)
        is_tensor = isinstance(self.result, Tensor)
        return self._to_float(self.result[:, :, rows] if is_tensor else self.result[:, rows])

    def _to_float(self, part: Any) -> Tensor:
        if isinstance(part, Tensor):
            return part.to(self.device, torch.float32)
        # What torch takes: no other byte order (of 16-bit files), no read-only memory (of PIL).
        part = np.require(part, part.dtype.newbyteorder("="), ["C", "W"])
        # The device gets the small numbers, and makes floating point of them.
        values = torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        largest = LARGEST[part.dtype.name]
        # Those that are floating point already may still be the caller's own.
        return values.div_(largest) if largest > 1 else values

    def _cut(self, images: Any, top: int, bottom: int, axis: int) -> Any:
        before = (slice(None),) * axis
        whole = bottom <= self.height
        part = images[(*before, slice(top, bottom) if whole else self._rows[top:bottom])]
        if self.size[1] != self.width:
            part = part[(*before, slice(None), self._columns)]
        return part

    def write(self, top: int, bottom: int, values: Tensor) -> None:
        """Takes rows of the result (n, 3, bottom - top, W); clamps, and rounds where it has to."""
        bottom = min(bottom, self.height)
        if top >= bottom:
            return
        values = values[:, :, : bottom - top, : self.width].float()
        if self.strength != 1:
            # Before the clamping, which would take away what less or more of the change needs.
            hazy = self.read(top, bottom)[..., : self.width]
            values = torch.lerp(hazy, values, self.strength)
        self.write_result(top, bottom, values)

    def write_result(self, top: int, bottom: int, values: Tensor) -> None:
        """Takes rows of the result as they are to be, (n, 3, bottom - top, w), float32.

        They are used up.
        """
        values = values.clamp_(0, 1)
        if isinstance(self.result, Tensor):
            self.result[:, :, top:bottom] = values
            return
        largest = LARGEST[self.result.dtype.name]
        if largest > 1:
            values = values.mul_(largest).round_()
            # torch has few operations on 16 bit without sign; int32 holds both.
            values = values.to(torch.uint8 if largest < 256 else torch.int32)
        self.result[:, top:bottom] = values.permute(0, 2, 3, 1).cpu().numpy()


def check_images(images: Any) -> None:
    """Checks that something is an image, or several, that a network can be given.

    Args:
        images: An array (h, w, 3) or (n, h, w, 3), or a tensor (3, h, w) or (n, 3, h, w), of the
            types that :class:`Frames` takes.

    Raises:
        KTDNError: If it is not, or if floating point reaches far beyond [0, 1].
    """
    if isinstance(images, Tensor):
        kind, channels = "a tensor is (3, h, w) or (n, 3, h, w)", -3
        types, is_known = "floating point", images.is_floating_point()
    elif isinstance(images, np.ndarray):
        kind, channels = "an array is (h, w, 3) or (n, h, w, 3)", -1
        types, is_known = "uint8, uint16 or float32", images.dtype.name in LARGEST
    else:
        raise KTDNError(f"an image is a path, an array or a tensor, not a {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or shape[channels] != 3 or 0 in shape[-3:]:
        raise KTDNError(f"{kind}, RGB; got {shape}")
    if not is_known:
        raise KTDNError(f"{kind} of {types}; got {images.dtype}")
    if 0 in shape or (isinstance(images, np.ndarray) and images.dtype.kind == "u"):
        return
    values = images.detach() if isinstance(images, Tensor) else images
    least, most = float(values.min()), float(values.max())
    # A little beyond is what resizing leaves. The comparison also finds what is not a number.
    if not (least >= -BEYOND and most <= 1 + BEYOND):
        raise KTDNError(
            f"an image in floating point is in [0, 1]; this one has values from {least:.4g} to "
            f"{most:.4g}: divide it by the largest that its format has, or give it as uint8"
        )


def padding(size: int) -> NDArray[np.int64]:
    """Returns which pixel each position of a padded axis shows.

    As :func:`~ktdn_plugin.archs.ktdn_arch.pad_to_multiple` pads: reflected at the end, or its last
    pixel repeated where the axis is too short for that.
    """
    wanted = max(-(-size // MULTIPLE) * MULTIPLE, MINIMUM)
    positions = np.arange(wanted)
    if wanted - size < size:
        return np.where(positions < size, positions, 2 * (size - 1) - positions)
    return np.minimum(positions, size - 1)
