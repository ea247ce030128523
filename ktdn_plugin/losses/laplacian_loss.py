"""Laplacian-pyramid loss (Lap1): L1 between images, scale by scale."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ktdn_plugin.errors import did_you_mean

REDUCTIONS = ("mean", "sum", "none")
LEVEL_WEIGHTINGS = ("pixels", "levels")
MAX_LEVELS = 24  # of images with 2**24 rows
MAX_KERNEL_SIZE = 63


def laplacian_pyramid(x: Tensor, levels: int, kernel_size: int = 5) -> list[Tensor]:
    """Splits images into band-pass levels and a low-pass remainder.

    Source: Burt & Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983, with a binomial
    kernel and mirrored borders. The pyramid is linear, and expanding and adding its levels from the
    coarsest on gives ``x`` back.

    Args:
        x: ``(n, c, h, w)``, floating point, any value range; every channel is taken by itself.
        levels: Number of band-pass levels, 1 to 24.
        kernel_size: Taps of the binomial kernel, odd, 3 to 63.

    Returns:
        ``levels + 1`` tensors, finest first, in the dtype of ``x``: level ``j`` is
        ``(n, c, ceil(h / 2**j), ceil(w / 2**j))``; the last one is the low-pass remainder.

    Raises:
        ValueError: If ``levels`` or ``kernel_size`` is out of range, or ``x`` is not 4D or too
            small for so many levels.
    """
    _check_shape_of_pyramid(levels, kernel_size)
    return _pyramid(x, levels, _binomial(kernel_size))


class LaplacianLoss(nn.Module):
    """Weighted sum over pyramid levels of the L1 distance between two images' levels.

    Source: Lap1 of Bojanowski et al., "Optimizing the Latent Space of Generative Networks" (GLO,
    2017), as KTDN (Wu et al., CVPRW 2020) uses it. The low-pass remainder counts as one more level,
    so the loss is zero only where the images are equal.

    Args:
        loss_weight: Factor of the whole loss.
        reduction: ``'mean'``: sum over levels of ``m_j * mean|L_j|``. ``'sum'``: sum over levels of
            ``s_j * sum|L_j|``. ``'none'``: ``(n, c)``, one value for each sample and channel, whose
            mean is that of ``'mean'``.
        levels: Number of band-pass levels, 1 to 24.
        kernel_size: Taps of the binomial kernel, odd, 3 to 63.
        level_weighting: ``'pixels'``: ``m_j = 4**-j``, ``s_j = 1`` (``j = 0`` finest), every pixel
            of the pyramid alike, so that fine levels weigh more, as KTDN's text has it.
            ``'levels'``: ``m_j = 1``, ``s_j = 4**j``, GLO's printed ``2**(2j)`` on sums, every
            level alike.

    Raises:
        ValueError: If an argument is not one of the above.

    Example:
        >>> image = torch.rand(1, 3, 64, 64)
        >>> float(LaplacianLoss(0.3, levels=4)(image, image))
        0.0
    """

    kernel: Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        levels: int = 5,
        kernel_size: int = 5,
        level_weighting: str = "pixels",
    ) -> None:
        super().__init__()
        for argument, value, known in (
            ("reduction", reduction, REDUCTIONS),
            ("level_weighting", level_weighting, LEVEL_WEIGHTINGS),
        ):
            if value not in known:
                raise ValueError(
                    f"LaplacianLoss: {argument}={value!r} is not one of "
                    f"{', '.join(known)}{did_you_mean(value, known)}"
                )
        _check_shape_of_pyramid(levels, kernel_size)
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.levels = levels
        self.kernel_size = kernel_size
        self.level_weighting = level_weighting
        # A buffer, so that it lies on the GPU already and no step waits for a copy of five numbers.
        self.register_buffer("kernel", _binomial(kernel_size), persistent=False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compares two batches of images.

        Args:
            pred: ``(n, c, h, w)``, any value range, any floating-point dtype.
            target: Same shape as ``pred``.

        Returns:
            Scalar, or ``(n, c)`` for ``reduction='none'``; float32 for half-precision input, also
            inside autocast, else the input's dtype.

        Raises:
            ValueError: If the shapes differ, are not 4D, or are too small for ``levels``.
        """
        if pred.shape != target.shape:
            raise ValueError(
                f"LaplacianLoss: pred {tuple(pred.shape)} and target {tuple(target.shape)} "
                "must have the same shape"
            )
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            # One pyramid does for two images: it is linear.
            difference = pred.to(dtype) - target.to(dtype)
            pyramid = _pyramid(difference, self.levels, self.kernel)
            loss = torch.stack([self._reduce(level, j) for j, level in enumerate(pyramid)]).sum(0)
        return self.loss_weight * loss

    def _reduce(self, level: Tensor, j: int) -> Tensor:
        weight = 4.0**-j if self.level_weighting == "pixels" else 1.0
        if self.reduction == "sum":
            return weight * 4.0**j * level.abs().sum()
        if self.reduction == "none":
            return weight * level.abs().mean(dim=(2, 3))
        return weight * level.abs().mean()


def _check_shape_of_pyramid(levels: int, kernel_size: int) -> None:
    # More than any image has room for; computing its size would take all time and memory.
    if not isinstance(levels, int) or not 1 <= levels <= MAX_LEVELS:
        raise ValueError(f"levels={levels!r} must be a whole number from 1 to {MAX_LEVELS}")
    if (
        not isinstance(kernel_size, int)
        or not 3 <= kernel_size <= MAX_KERNEL_SIZE
        or kernel_size % 2 == 0
    ):
        raise ValueError(
            f"kernel_size={kernel_size!r} must be an odd whole number from 3 to {MAX_KERNEL_SIZE}"
        )


def _binomial(kernel_size: int) -> Tensor:
    order = kernel_size - 1
    return torch.tensor([math.comb(order, i) / 2**order for i in range(kernel_size)])


def _pyramid(x: Tensor, levels: int, kernel: Tensor) -> list[Tensor]:
    _check_size(x, levels, kernel.numel())
    kernel = kernel.to(x)
    pyramid = []
    for _ in range(levels):
        coarse = _blur(x, kernel, stride=2)
        pyramid.append(x - _expand(coarse, x.shape, kernel))
        x = coarse
    return [*pyramid, x]


def _check_size(x: Tensor, levels: int, kernel_size: int) -> None:
    if x.ndim != 4:
        raise ValueError(f"Laplacian pyramid: expected (n, c, h, w), got {tuple(x.shape)}")
    # Mirroring r pixels takes r + 1, on the smallest level that is still blurred too.
    r = kernel_size // 2
    height, width = x.shape[2:]
    smallest = r * 2 ** (levels - 1) + 1
    if min(height, width) < smallest:
        most = max(0, (min(height, width) - 1) // r).bit_length()
        raise ValueError(
            f"Laplacian pyramid: levels={levels} with kernel_size={kernel_size} takes images of at "
            f"least {smallest} x {smallest}, got {height} x {width}, which "
            + (f"allows at most levels={most}" if most else "is too small for even one level")
        )


def _blur(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    channels = x.shape[1]
    column = kernel.view(1, 1, -1, 1).expand(channels, -1, -1, -1)
    r = kernel.numel() // 2
    x = F.conv2d(_mirror(x, r, dim=2), column, stride=(stride, 1), groups=channels)
    return F.conv2d(_mirror(x, r, dim=3), column.mT, stride=(1, stride), groups=channels)


def _mirror(x: Tensor, r: int, dim: int) -> Tensor:
    # Not F.pad: its reflection has no deterministic gradient on CUDA, and fails where one is asked.
    before = x.narrow(dim, 1, r).flip(dim)
    after = x.narrow(dim, x.shape[dim] - 1 - r, r).flip(dim)
    return torch.cat((before, x, after), dim)


def _expand(x: Tensor, shape: torch.Size, kernel: Tensor) -> Tensor:
    spread = x.new_zeros(shape)
    # Only one pixel in four is set, so each has to bring four times as much.
    spread[..., ::2, ::2] = 4 * x
    return _blur(spread, kernel)
