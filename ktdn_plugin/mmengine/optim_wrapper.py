"""Mixed precision in bfloat16, on CPUs too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ktdn_plugin.mmengine.registry import OPTIM_WRAPPERS
from ktdn_plugin.training.precision import autocast


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the networks in bfloat16, on any device; weights and losses stay in float32.

    bfloat16 has float32's range, so losses need no scaling. For float16 on a GPU use mmengine's
    ``AmpOptimWrapper``, which refuses to run on a CPU.

    Args:
        **kwargs: As for ``OptimWrapper``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Provides the context of a forward pass."""
        device = next(model.parameters()).device
        with super().optim_context(model), autocast(device, torch.bfloat16):
            yield
