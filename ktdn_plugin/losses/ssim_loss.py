"""SSIM loss: how much of the structure of an image is lost."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ktdn_plugin.losses.pixel_loss import check_same_shape

WINDOW = 11


class SSIMLoss(nn.Module):
    """Weighted ``1 - SSIM``, each colour channel by itself, with the usual Gaussian window.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
    TIP 2004, window of 11 x 11 pixels with sigma 1.5, K = (0.01, 0.03), borders left out; as a
    loss: Zhao et al., "Loss Functions for Image Restoration with Neural Networks", TCI 2017.
    Computed by pytorch-msssim, whose gradient is deterministic on CUDA as well.

    There is no MS-SSIM: it takes crops of more than 160 pixels, and where one scale's structure is
    inverted, as it may be in the first iterations, its gradient is zero at all scales.

    Args:
        loss_weight: Factor of the loss.

    Example:
        >>> image = torch.rand(1, 3, 32, 32)
        >>> float(SSIMLoss(0.3)(image, image))
        0.0
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        # Loaded where it is used, and before a training begins.
        from pytorch_msssim import ssim

        self.ssim = ssim
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two batches of images.

        Args:
            pred: ``(n, c, h, w)``, in [0, 1] but for what a network overshoots.
            target: Same shape, in [0, 1].

        Returns:
            Scalar from 0 to ``2 * loss_weight``; float32 for half-precision input.

        Raises:
            ValueError: If the shapes differ, or the images are smaller than 11 x 11.
        """
        check_same_shape("SSIMLoss", pred, target)
        if pred.ndim != 4 or min(pred.shape[2:]) < WINDOW:
            raise ValueError(
                f"SSIMLoss: takes images (n, c, h, w) of at least {WINDOW} x {WINDOW}, got "
                f"{tuple(pred.shape)}"
            )
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            similarity = self.ssim(pred.to(dtype), target.to(dtype), data_range=1.0)
        return self.loss_weight * (1 - similarity)
