"""Feature attention module: channel attention, pixel attention, and the residual block of both.

Source: Wu et al., "Knowledge Transfer Dehazing Network for NonHomogeneous Dehazing", CVPRW 2020,
section on the network; the two attentions are those of FFA-Net (Qin et al., AAAI 2020).
"""

from __future__ import annotations

from torch import Tensor, nn


def _check_widths(channels: int, reduction: int) -> None:
    if channels < 1 or reduction < 1:
        raise ValueError(
            f"channels and reduction must be at least 1, got channels={channels}, "
            f"reduction={reduction}"
        )


def _squeezed_width(channels: int, reduction: int) -> int:
    _check_widths(channels, reduction)
    # A narrow feature (fewer channels than the reduction) still needs one channel to squeeze into.
    return max(channels // reduction, 1)


class ChannelAttention(nn.Module):
    """Weighs each channel by a factor that follows from the channels' global averages.

    Args:
        channels: Channels of the feature.
        reduction: The bottleneck has ``channels // reduction`` channels, at least one.

    Example:
        >>> ChannelAttention(64)(torch.rand(1, 64, 20, 30)).shape
        torch.Size([1, 64, 20, 30])
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        squeezed = _squeezed_width(channels, reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps a feature (n, c, h, w) to one of the same shape, each channel scaled by 0 to 1."""
        return x * self.attention(self.pool(x))


class PixelAttention(nn.Module):
    """Weighs each position by a factor that follows from its channels.

    Args:
        channels: Channels of the feature.
        reduction: The bottleneck has ``channels // reduction`` channels, at least one.

    Example:
        >>> PixelAttention(64)(torch.rand(1, 64, 20, 30)).shape
        torch.Size([1, 64, 20, 30])
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        squeezed = _squeezed_width(channels, reduction)
        self.attention = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps a feature (n, c, h, w) to one of the same shape, each pixel scaled by 0 to 1."""
        return x * self.attention(x)


class FAM(nn.Module):
    """Feature attention module: a residual block that ends in channel and pixel attention.

    ``x + PA(CA(conv(relu(conv(x)) + x)))``; both convolutions are 3x3 with bias and keep the width.

    Args:
        channels: Channels of the feature, in and out.
        reduction: Bottleneck of the two attentions, see :class:`ChannelAttention`.

    Example:
        >>> FAM(64)(torch.rand(1, 64, 20, 30)).shape
        torch.Size([1, 64, 20, 30])
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        _check_widths(channels, reduction)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.channel_attention = ChannelAttention(channels, reduction)
        self.pixel_attention = PixelAttention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a feature (n, c, h, w) to one of the same shape."""
        residual = self.conv2(self.relu(self.conv1(x)) + x)
        return x + self.pixel_attention(self.channel_attention(residual))
