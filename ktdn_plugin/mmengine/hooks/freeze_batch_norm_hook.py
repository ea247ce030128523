"""Freezes batch statistics late in training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.registry import HOOKS
from ktdn_plugin.training.batch_norm import batch_norms, freeze


@HOOKS.register_module()
class FreezeBatchNormHook(Hook):
    """Makes batch norms use their running statistics without updating them, after some iterations.

    Their scales and shifts keep learning. Source: SRKTDN (NTIRE 2021) froze its batch statistics
    for the last three quarters of training.

    Args:
        after: Iterations trained before freezing; 0 freezes from the start.

    Raises:
        KTDNError: If that is not a non-negative integer.
    """

    def __init__(self, after: int) -> None:
        if isinstance(after, bool) or not isinstance(after, int) or after < 0:
            raise KTDNError(f"after: {after!r} must be a whole number of iterations, 0 or more")
        self.after = after

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Freezes again each time, as loops put the model in train mode before an iteration."""
        if runner.iter >= self.after:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            freeze(batch_norms(model))
