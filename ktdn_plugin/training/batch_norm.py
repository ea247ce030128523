"""Batch statistics in training: frozen, or taken over the batches of all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from timm.layers import convert_sync_batchnorm
from torch import nn
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


def synchronize(network: nn.Module, option: str, warn: Callable[[str], object]) -> nn.Module:
    """Makes batch norms take their statistics over the batches of all processes.

    Only GPUs can: torch has no synchronised batch norm for CPUs.

    Args:
        network: The network, on its device. Names of its weights stay.
        option: The option that asks for it, for the warning.
        warn: Called with one line if the network is on a CPU, where it stays as it is.

    Returns:
        The network to use in its place.
    """
    on_cpu = any(parameter.device.type == "cpu" for parameter in network.parameters())
    if on_cpu and batch_norms(network):
        warn(
            f"{option}: batch norms are synchronised only on GPUs; these processes run on CPUs, "
            "and each uses the statistics of its own images."
        )
        return network
    # timm's: torch's own drops the activations that timm's batch norms carry.
    return convert_sync_batchnorm(network)
