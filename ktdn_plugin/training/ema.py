"""Averaging a network's weights over training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_ema(average: nn.Module, current: nn.Module, decay: float) -> None:
    """Moves an averaged network towards the trained one; batch statistics are copied.

    Args:
        average: The averaged network; it is changed.
        current: The trained network, with the same weights in the same order.
        decay: What stays of the average, in [0, 1]; 0 copies.
    """
    # Few kernels for a thousand tensors: one each would take a GPU longer to start than to run.
    averages: list[Tensor] = list(average.parameters())
    currents: list[Tensor] = list(current.parameters())
    if averages:
        torch._foreach_lerp_(averages, currents, 1 - decay)
    averages, currents = list(average.buffers()), list(current.buffers())
    if averages:
        torch._foreach_copy_(averages, currents)
