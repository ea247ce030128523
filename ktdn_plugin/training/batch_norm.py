"""Batch statistics in training: frozen, or taken over the batches of all processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Lists a network's batch norms, synchronised ones included."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def freeze(norms: Iterable[_BatchNorm]) -> None:
    """Makes batch norms use their running statistics and leave them as they are.

    Their scales and shifts go on learning. ``network.train()`` undoes it.
    """
    for norm in norms:
        norm.eval()


def synchronize(network: nn.Module) -> nn.Module:
    """Makes batch norms take their statistics over the batches of all processes.

    Args:
        network: The network, on its device; it is changed. Names of its weights stay.

    Returns:
        The network to use in its place.
    """
    if any(parameter.device.type != "cpu" for parameter in network.parameters()):
        # timm's: torch's own drops the activations that timm's batch norms carry.
        return convert_sync_batchnorm(network)
    for module in batch_norms(network):
        # torch synchronises on GPUs alone. Same layout, other forward pass.
        acts = isinstance(module, BatchNormAct2d)
        module.__class__ = _SyncBatchNormAct if acts else _SyncBatchNorm
    return network


class _Sum(torch.autograd.Function):
    """Sum over all processes, with a gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process' output follows from every process' input.
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def _normalize(norm: _BatchNorm, input: Tensor) -> Tensor:
    """Does what ``F.batch_norm`` does, with the mean and variance of all processes' batches."""
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    # Two passes: the mean of squares less the square of the mean loses digits.
    sums = _Sum.apply(torch.cat([x.sum(axes), x.new_tensor([x.numel() / x.shape[1]])]))
    count = sums[-1:].detach()
    mean = sums[:-1] / count
    centred = x - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / count
    if norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        unbiased = variance.detach() * count / (count - 1)
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), weight)
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), weight)
    output = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        output = output * norm.weight.view(shape) + norm.bias.view(shape)
    return output.to(input.dtype)


class _SyncBatchNorm(_BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes behind the channels will do."""

    def forward(self, input: Tensor) -> Tensor:
        if _alone() or not self.training:
            return super().forward(input)
        return _normalize(self, input)


class _SyncBatchNormAct(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        if _alone() or not self.training:
            return super().forward(x)
        return self.act(self.drop(_normalize(self, x)))
