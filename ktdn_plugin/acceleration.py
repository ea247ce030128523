"""What makes a step faster without changing what it computes: precision, memory layout, compiling.

Plain torch; any training loop can use it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

AMP: dict[str, torch.dtype | None] = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of automatic mixed precision to the dtype that autocast computes in."""


def autocast(device: torch.device, amp: torch.dtype | None) -> AbstractContextManager[None]:
    """Gives the context that a network's forward pass runs in.

    Args:
        device: Where the network is.
        amp: The dtype of convolutions and matrix products; None leaves everything as it is, also
            inside somebody else's autocast.
    """
    if amp is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=amp)


def accelerate(
    network: nn.Module, *, channels_last: bool = False, compile: bool = False
) -> nn.Module:
    """Changes how a network computes, in place; names and values of its weights stay.

    Args:
        network: The network.
        channels_last: Lay weights out channels last, which convolutions on tensor cores want; the
            features follow their layout.
        compile: Let ``torch.compile`` generate the kernels, when the network is first run.

    Returns:
        The network.
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)
    if compile:
        network.compile()
    return network
