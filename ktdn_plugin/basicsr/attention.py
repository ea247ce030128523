"""Shows what a network attends to: its pixel attention as a map and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ktdn_plugin.blocks.fam import PixelAttention


@contextmanager
def record_attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """Records the maps of the last pixel attention while the network runs, without changing it.

    In KTDN the last one is that of the FAM at stride 4, the finest.

    Args:
        network: Any network; without a :class:`~ktdn_plugin.blocks.PixelAttention` it gives none.

    Yields:
        The maps (n, 1, h, w) in [0, 1], one per forward pass, on the CPU.
    """
    maps: list[Tensor] = []
    blocks = [module for module in network.modules() if isinstance(module, PixelAttention)]

    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        maps.append(output.detach().float().cpu())

    handles = [block.attention.register_forward_hook(record) for block in blocks[-1:]]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def attention_heatmap(attention: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """Draws an attention map as a heat map, from dark blue (lowest) to yellow (highest).

    Args:
        attention: The map (h, w), any value range.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    values = attention.detach().float().cpu().numpy()
    span = float(values.max() - values.min())
    scaled = (values - values.min()) / span if span > 0 else np.zeros_like(values)
    grey = cv2.resize((255 * scaled).astype(np.uint8), (width, height))
    colours = cv2.applyColorMap(np.asarray(grey, np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), np.uint8)
