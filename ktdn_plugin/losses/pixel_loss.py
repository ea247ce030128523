"""Pixel loss: the distance of an image from another, pixel by pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ktdn_plugin.errors import did_you_mean

CRITERIA = {"l1": F.l1_loss, "mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss}
REDUCTIONS = ("mean", "sum", "none")


class PixelLoss(nn.Module):
    """Weighted distance of images, such as KTDN's reconstruction loss.

    Source: Wu et al., CVPRW 2020, L_rec: L1. ``smooth_l1`` is what other dehazing networks take.

    Args:
        loss_weight: Factor of the loss.
        reduction: ``'mean'`` or ``'sum'`` over all elements, or ``'none'``.
        criterion: ``'l1'``, ``'mse'`` or ``'smooth_l1'``.

    Raises:
        ValueError: If an argument is not one of the above.

    Example:
        >>> black, grey = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
        >>> float(PixelLoss(criterion="mse")(black, grey))
        0.25
    """

    def __init__(
        self, loss_weight: float = 1.0, reduction: str = "mean", criterion: str = "l1"
    ) -> None:
        super().__init__()
        for argument, value, known in (
            ("reduction", reduction, REDUCTIONS),
            ("criterion", criterion, tuple(CRITERIA)),
        ):
            if value not in known:
                raise ValueError(
                    f"PixelLoss: {argument} {value!r} is not one of {', '.join(known)}"
                    f"{did_you_mean(value, known)}"
                )
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.criterion = criterion

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Compares images of one shape, any value range; gives a scalar, or the shape itself."""
        check_same_shape("PixelLoss", image, target)
        return self.loss_weight * CRITERIA[self.criterion](image, target, reduction=self.reduction)


def check_same_shape(loss: str, image: Tensor, target: Tensor) -> None:
    """Checks that images can be compared; torch would broadcast them, with a warning at most.

    Raises:
        ValueError: If their shapes differ.
    """
    if image.shape != target.shape:
        raise ValueError(
            f"{loss}: an image of {tuple(image.shape)} and a target of {tuple(target.shape)} "
            "cannot be compared"
        )
