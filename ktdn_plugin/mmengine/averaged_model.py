"""An average of a model's weights, the same as on BasicSR's side."""

from __future__ import annotations

from mmengine.model import BaseAveragedModel
from torch import Tensor, nn

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.registry import MODELS
from ktdn_plugin.training.ema import update_ema


@MODELS.register_module()
class WeightAverage(BaseAveragedModel):
    """Exponential average starting from the initial weights; batch statistics are copied.

    mmengine's ``ExponentialMovingAverage`` starts from the weights after the first iteration, so
    its average never equals that of BasicSR's side.

    Args:
        model: The model.
        momentum: Weight of the trained weights in each update, in (0, 1]: one minus
            ``ema_decay``.
        interval: Iterations between updates.

    Raises:
        KTDNError: If the momentum is out of range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.001, interval: int = 1) -> None:
        if not 0 < momentum <= 1:
            raise KTDNError(f"WeightAverage: momentum {momentum} must be above 0, and at most 1")
        super().__init__(model, interval)
        self.momentum = momentum

    def update_parameters(self, model: nn.Module) -> None:
        """Moves the average towards the model."""
        if int(self.steps) % self.interval == 0:
            update_ema(self.module, model, 1 - self.momentum)
        self.steps += 1

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        """Averages one tensor in place, for code that calls this directly."""
        averaged_param.lerp_(source_param, self.momentum)
