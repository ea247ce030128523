"""Weights for benchmarks without a trained network, with which every layer does something."""

from __future__ import annotations

import math

import torch
from torch import nn

LAST_IN_BLOCK = 0.25


def draw_weights(network: nn.Module, seed: int) -> None:
    """Draws random weights and batch statistics that keep features in range, in place.

    Freshly built networks multiply by zero in many places, and their batch norms have nothing to
    fold.

    Args:
        network: The network, as built.
        seed: Seed of the weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(normal(module.weight, 1 / math.sqrt(module.weight[0].numel())))
                if module.bias is not None:
                    module.bias.copy_(normal(module.bias, 0.05))
            elif isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                # A block that is initialised to the identity ends in a norm of zeros.
                scale = 1.0 if module.weight.any() else LAST_IN_BLOCK
                module.weight.copy_(scale * (1 + normal(module.weight, 0.1)))
                module.bias.copy_(normal(module.bias, 0.05))
                assert module.running_mean is not None
                module.running_mean.copy_(normal(module.running_mean, 0.1))
                module.running_var.copy_(
                    0.5 + torch.rand(module.running_var.shape, generator=generator)
                )
