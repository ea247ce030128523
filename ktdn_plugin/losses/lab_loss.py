"""Lab loss: the distance of colours as people see it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ktdn_plugin.losses.pixel_loss import check_same_shape

UNIT = 100.0


class LabLoss(nn.Module):
    """Weighted mean squared distance of images in CIE Lab (sRGB, D65), in units of 100.

    Source: SRKTDN (Chen et al., CVPRW 2021), whose fourth loss is L2 in Lab with weight 0.5. In
    which unit it has Lab is not known; here lightness runs from 0 to 1, as RGB does, so that the
    loss is of the size of a squared distance in RGB. Computed by kornia, which is differentiable
    where scikit-image's and OpenCV's conversions are not, and runs on the images' device.

    Colours outside [0, 1] have no place in Lab: the images are clamped first, so that a pixel gets
    no gradient from this loss where the network overshoots. Use it beside another loss.

    Args:
        loss_weight: Factor of the loss.

    Example:
        >>> black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
        >>> round(float(LabLoss(0.5)(black, white)), 4)  # one channel of three differs, by 1
        0.1667
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        # Loaded where it is used, and before a training begins.
        from kornia.color import rgb_to_lab

        self.rgb_to_lab = rgb_to_lab
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two batches of images.

        Args:
            pred: ``(n, 3, h, w)``, RGB in [0, 1] but for what a network overshoots.
            target: Same shape, in [0, 1].

        Returns:
            Scalar, 0 or more; float32 for half-precision input.

        Raises:
            ValueError: If the shapes differ, or the images are not RGB.
        """
        check_same_shape("LabLoss", pred, target)
        if pred.ndim != 4 or pred.shape[1] != 3:
            raise ValueError(f"LabLoss: takes RGB images (n, 3, h, w), got {tuple(pred.shape)}")
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            one, other = (
                self.rgb_to_lab(image.to(dtype).clamp(0, 1)) / UNIT for image in (pred, target)
            )
            return self.loss_weight * torch.nn.functional.mse_loss(one, other)
