"""Enhancing module: pyramid pooling at full resolution before the image is formed.

Source: Wu et al., CVPRW 2020, section on the network; the block is that of EPDN (Qu et al.,
"Enhanced Pix2pix Dehazing Network", CVPR 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOL_SIZES = (32, 16, 8, 4)


class EM(nn.Module):
    """Enhancing module: mixes a feature with its averages over cells of 32, 16, 8 and 4 pixels.

    Two 3x3 convolutions to 20 channels; each pooled scale is reduced to one channel and spread
    back by nearest neighbour; all 24 channels are fused by a 3x3 convolution and tanh.

    Args:
        in_channels: Channels of the feature.
        out_channels: Channels of the result.

    Example:
        >>> EM(28, 28)(torch.rand(1, 28, 40, 50)).shape
        torch.Size([1, 28, 40, 50])
    """

    width = 20

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.refine1 = nn.Conv2d(in_channels, self.width, 3, padding=1)
        self.refine2 = nn.Conv2d(self.width, self.width, 3, padding=1)
        self.pool_convs = nn.ModuleList(nn.Conv2d(self.width, 1, 1) for _ in POOL_SIZES)
        self.fuse = nn.Conv2d(self.width + len(POOL_SIZES), out_channels, 3, padding=1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a feature (n, in_channels, h, w) to (n, out_channels, h, w) in (-1, 1).

        Raises:
            ValueError: If the feature is smaller than the largest pooling cell, 32 x 32.
        """
        size = x.shape[-2:]
        if min(size) < max(POOL_SIZES):
            raise ValueError(
                f"EM needs features of at least {max(POOL_SIZES)} x {max(POOL_SIZES)} pixels, "
                f"got {size[0]} x {size[1]}; pad the input"
            )
        feature = self.act(self.refine2(self.act(self.refine1(x))))
        # F.avg_pool2d drops the remainder where the size is not a multiple of the cell.
        pooled = [
            F.interpolate(self.act(conv(F.avg_pool2d(feature, cell))), size=size, mode="nearest")
            for cell, conv in zip(POOL_SIZES, self.pool_convs, strict=True)
        ]
        return torch.tanh(self.fuse(torch.cat([*pooled, feature], dim=1)))
