"""Haze over a batch of images, on their device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ktdn_plugin.haze.clouds import Window
from ktdn_plugin.haze.scattering import make_transmission


class HazeBatch(NamedTuple):
    """Hazy images and what made them, with ``I = J t + A (1 - t)``.

    All are on the clear images' device and of their dtype.

    Attributes:
        hazy: I, (n, 3, h, w) RGB in [0, 1].
        transmission: t, (n, 1, h, w) in (0, 1].
        airlight: A, (n, 3, 1, 1) RGB in [0, 1].
    """

    hazy: Tensor
    transmission: Tensor
    airlight: Tensor


def synthesize_haze_batch(
    clear: Tensor, seeds: Sequence[int], *, depth: Tensor | None = None, **ranges: Any
) -> HazeBatch:
    """Adds clouds of haze to each image of a batch: ``synthesize_haze`` for tensors.

    Transmission and airlight are those of ``synthesize_haze`` with the same seed and size, to the
    bit on every device. Gradients flow to ``clear``, and to nothing else.

    Args:
        clear: J, (n, 3, h, w) RGB in [0, 1], floating point. Its values are not looked at: that
            would wait for the device.
        seeds: Which haze each image gets, n integers in [0, 2**32 - 1].
        depth: d, (n, 1, h, w), 0 or more, where 1 is a typical distance; all 1 by default.
        **ranges: ``density``, ``airlight``, ``tint``, ``veil``, ``coverage`` and ``octaves``, as
            ``synthesize_haze`` takes them.

    Returns:
        The hazy images with their transmissions and airlights. Images of half precision are
        computed with in float32, and rounded at the end.

    Raises:
        TypeError: ``clear`` or ``depth`` is no tensor of a fitting dtype, or a seed or
            ``octaves`` is no integer.
        ValueError: A shape, range or seed is outside what is said above.

    Example:
        >>> haze = synthesize_haze_batch(torch.rand(2, 3, 40, 50), seeds=[1, 2])
        >>> haze.hazy.shape
        torch.Size([2, 3, 40, 50])
    """
    if not isinstance(clear, Tensor) or not clear.is_floating_point():
        kind = clear.dtype if isinstance(clear, Tensor) else type(clear).__name__
        raise TypeError(f"clear must be a floating-point tensor, got {kind}")
    if clear.ndim != 4 or clear.shape[1] != 3 or not clear.numel():
        raise ValueError(f"clear must have shape (n, 3, h, w), got {tuple(clear.shape)}")
    count, _, height, width = clear.shape
    if len(seeds) != count:
        raise ValueError(f"seeds must be {count}, one for each image, got {len(seeds)}")

    # By the code that makes them for a single image, on the CPU, and copied: a device's own
    # arithmetic differs from the CPU's in the last bits, and from another device's, so that the
    # same seed would give other haze there. It takes some milliseconds an image.
    maps, lights = [], []
    for seed, distance in zip(seeds, _distances(depth, clear), strict=True):
        window = Window(height, width, 0, 0, (height, width))
        transmission, colour = make_transmission(window, seed, depth=distance, **ranges)
        maps.append(transmission)
        lights.append(colour)
    # Half precision is too coarse for 1 - t where there is little haze.
    precise = torch.promote_types(clear.dtype, torch.float32)
    t = torch.from_numpy(np.stack(maps)[:, None]).to(clear.device, precise)
    light = torch.from_numpy(np.stack(lights)[:, :, None, None]).to(clear.device, precise)
    hazy = clear.to(precise) * t + light * (1 - t)
    return HazeBatch(hazy.to(clear.dtype), t.to(clear.dtype), light.to(clear.dtype))


def _distances(depth: Tensor | None, clear: Tensor) -> Sequence[np.ndarray | None]:
    count, _, height, width = clear.shape
    if depth is None:
        return [None] * count
    if not isinstance(depth, Tensor) or depth.is_complex() or depth.dtype == torch.bool:
        kind = depth.dtype if isinstance(depth, Tensor) else type(depth).__name__
        raise TypeError(f"depth must be a tensor of numbers, got {kind}")
    if depth.shape != (count, 1, height, width):
        raise ValueError(
            f"depth must have shape {(count, 1, height, width)} as clear, got {tuple(depth.shape)}"
        )
    # numpy has no bfloat16. Rounding float64 to float32 is what would happen to it anyway.
    numbers: np.ndarray = depth.detach()[:, 0].float().cpu().numpy()
    return list(numbers)
