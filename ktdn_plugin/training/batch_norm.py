"""Batch statistics in training: frozen, or taken over the batches of all processes."""

from __future__ import annotations

from collections.abc import Iterable

from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ktdn_plugin.errors import KTDNError


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Lists a network's batch norms, synchronised ones included."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def freeze(norms: Iterable[_BatchNorm]) -> None:
    """Makes batch norms use their running statistics and leave them as they are.

    Their scales and shifts go on learning. ``network.train()`` undoes it.
    """
    for norm in norms:
        norm.eval()


def synchronize(network: nn.Module, option: str) -> nn.Module:
    """Makes batch norms take their statistics over the batches of all processes.

    Args:
        network: The network, on its device. Names of its weights stay.
        option: The option that asks for it, for the message.

    Returns:
        The network to use in its place.

    Raises:
        KTDNError: If it is on a CPU: torch synchronises on GPUs alone.
    """
    on_cpu = any(parameter.device.type == "cpu" for parameter in network.parameters())
    if on_cpu and batch_norms(network):
        raise KTDNError(
            f"{option}: batch norms are synchronised on GPUs alone, and these processes run on "
            "CPUs; set it to false, and each takes the statistics of its own images"
        )
    # timm's: torch's own drops the activations that timm's batch norms carry.
    return convert_sync_batchnorm(network)
