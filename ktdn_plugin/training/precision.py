"""Speeds up a step without changing what it computes: precision, memory layout, compiling.

Plain torch; any training loop can use it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ktdn_plugin.errors import KTDNError

AMP: dict[str, torch.dtype | None] = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of automatic mixed precision to the dtype that autocast computes in."""


SKIPS_IN_A_ROW = 16
"""Steps that half precision's overflow may leave out in a row.

Each halves the scale of the losses: after so many, one of 2**14, where training begins, is below 1,
and the gradient is out of range of itself.
"""

AVERAGES = ("exp_avg", "momentum_buffer")
"""What optimisers of all kinds keep in the shape of the weight."""


class SkippedSteps:
    """Counts the steps in a row that a gradient scaler skips, for any training loop.

    Attributes:
        count: Steps left out since the last one that was taken.
    """

    def __init__(self) -> None:
        self.count = 0

    def note(self, is_finite: bool) -> bool:
        """Notes whether a step's gradient was finite.

        Returns:
            Whether training may continue: not where nothing has been learned for too long.
        """
        self.count = 0 if is_finite else self.count + 1
        return self.count < SKIPS_IN_A_ROW


def autocast(device: torch.device, amp: torch.dtype | None) -> AbstractContextManager[None]:
    """Returns the context that a network's forward pass runs in.

    Args:
        device: Where the network is.
        amp: The dtype of convolutions and matrix products; None leaves everything as it is, also
            inside somebody else's autocast.
    """
    if amp is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=amp)


def apply_speed_options(
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


def match_state(optimizer: torch.optim.Optimizer) -> None:
    """Matches an optimiser's averages to the memory layout of their weights.

    Call it after ``load_state_dict``.

    A state that was saved without ``channels_last`` has another layout than weights with it. Fused
    optimisers do not look: on a CPU they mix the elements up silently, on a GPU they fail.
    Nor do they look at sizes: with averages of smaller weights they write beyond these.

    Args:
        optimizer: The optimiser, with its state loaded.

    Raises:
        KTDNError: If an average has another shape than its weight.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for key, value in state.items():
                if not isinstance(value, torch.Tensor):
                    continue
                # Others may keep rows and columns, or one number for each weight.
                is_average = key in AVERAGES or (group.get("fused") and key != "step")
                if value.shape != parameter.shape and is_average:
                    raise KTDNError(
                        f"the optimizer state is from a different network: {key} of shape "
                        f"{tuple(value.shape)} for a weight of {tuple(parameter.shape)}"
                    )
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
