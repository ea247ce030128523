"""KTDN: the network that teacher and student share.

Source: Wu et al., "Knowledge Transfer Dehazing Network for NonHomogeneous Dehazing", CVPRW 2020,
section on the network, with the layer sizes of the network that its authors published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin.archs.encoder import STAGES, Encoder
from ktdn_plugin.archs.hub import HubModule
from ktdn_plugin.blocks import EM, FAM
from ktdn_plugin.errors import did_you_mean

FEATURES = (*STAGES, "mid")
"""Names of the features, shallow to deep."""

MULTIPLE = 16
MINIMUM = 32

HEADS = {"tanh": 3, "affine": 6}
"""What a network can end in, and how many channels its last convolution has then."""


class KTDN(HubModule):
    """Knowledge Transfer Dehazing Network.

    Encoder; three FAMs at strides 16, 8 and 4 with pixel shuffles between them and skip
    connections from the encoder; two more pixel shuffles; EM; a 7x7 convolution and tanh. The
    decoder's widths follow from the encoder's; where a pixel shuffle would not come out whole, a
    1x1 convolution widens the encoder's feature by the few channels that are missing.

    The paper's network draws every pixel of the image from its last feature, through tanh. The
    other head, ``affine``, is ours: the 7x7 convolution gives each pixel and colour a gain g and
    an offset b, and the image is ``x * (1 + g) + b``. A hazy image is
    ``I = J t + A (1 - t)``, so that the clear one, ``J = I / t - A (1 - t) / t``, is such a gain
    and offset of it. The image's own details go through unharmed, and nothing has to be drawn
    again from the few channels that a small encoder leaves at full resolution. Both start at
    zero, and the network as the identity. A teacher needs ``tanh``: it has to reconstruct its
    input through its narrowest feature, where a gain and an offset of zero would do instead.

    Args:
        encoder: Name of a timm backbone with features at strides 4, 8 and 16. ``res2net101d`` is
            the published network (49.35 million parameters).
        pretrained: Encoder weights: ``True`` for timm's ImageNet weights, a path for a local
            file, ``False`` for random ones.
        mean: Subtracted from the RGB input inside the network.
        std: The input is divided by it after that.
        reduction: Bottleneck of the FAMs' attentions.
        head: What the network ends in: ``tanh``, as published, or ``affine``.
        widths: Channels of the three skip connections, deep to shallow (strides 16, 8 and 4), for
            a decoder wider than a narrow encoder's own; ``None`` lets them follow from the
            encoder. With (192, 80, 160) the pixel shuffles leave 48 channels at stride 8, 32 at
            stride 4 and 12 at full resolution.

    Raises:
        KTDNError: If the encoder cannot be built or its weights are not available.
        ValueError: If mean or std are not three numbers, or a std is not positive; if there is no
            such head; if a pixel shuffle of these widths would not come out whole.

    Example:
        >>> network = KTDN("mobilenetv2_100", head="affine", widths=(192, 80, 160)).eval()
        >>> hazy = torch.rand(1, 3, 30, 40)
        >>> torch.equal(network(hazy), hazy)  # until it is trained
        True
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: str = "res2net101d",
        pretrained: bool | str | Path = False,
        mean: Sequence[float] = (0.64, 0.6, 0.58),
        std: Sequence[float] = (0.14, 0.15, 0.152),
        reduction: int = 8,
        head: Literal["tanh", "affine"] = "tanh",
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_head(head)
        if widths is not None:
            check_widths(widths)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"mean and std must be three numbers each, std positive; got {mean}, {std}"
            )
        # Settings, not weights: they stay out of the checkpoint, as in the published one.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

        self.encoder = Encoder(encoder, pretrained)
        c4, c8, c16 = self.encoder.channels
        wide16, wide8, wide4 = widths or default_widths(self.encoder.channels)
        up8 = wide16 // 4
        up4 = (up8 + wide8) // 4
        up1 = (up4 + wide4) // 16
        self.project4 = _projection(c4, wide4)
        self.project8 = _projection(c8, wide8)
        self.project16 = _projection(c16, wide16)

        self.fam16 = FAM(wide16, reduction)
        self.fam8 = FAM(up8, reduction)
        self.fam4 = FAM(up4, reduction)
        self.shuffle = nn.PixelShuffle(2)
        self.em = EM(up1, up1)
        self.head = head
        self.tail = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(up1, HEADS[head], 7))
        if head == "tanh":
            self.tail.append(nn.Tanh())
        else:
            for parameter in self.tail.parameters():
                nn.init.zeros_(parameter)

    @overload
    def forward(self, x: Tensor, return_features: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, return_features: Literal[True]
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

    def forward(
        self, x: Tensor, return_features: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Dehazes images (student) or reconstructs them (teacher).

        Args:
            x: RGB images (n, 3, h, w) in [0, 1], of any size from 1 x 1 up. A size that is no
                multiple of 16 or is below 32 is padded at the right and the bottom by reflection
                (replication where the image is too small for that), and the result is cropped.
            return_features: Also give the features, see :meth:`forward_features`.

        Returns:
            Images (n, 3, h, w), not clamped: in (-1, 1) with the head ``tanh``, of any value with
            ``affine``; clamp to [0, 1] to save or measure them. With ``return_features`` a
            pair of these and the features.

        Raises:
            ValueError: If ``x`` is not (n, 3, h, w).
        """
        features = _compute_features(self, x, FEATURES)
        height, width = x.shape[-2:]
        up = self.fam8(self.shuffle(features["mid"]))
        up = self.fam4(self.shuffle(torch.cat([up, self.project8(features["stage2"])], dim=1)))
        up = torch.cat([up, self.project4(features["stage1"])], dim=1)
        image = self.tail(self.em(self.shuffle(self.shuffle(up))))[..., :height, :width]
        if self.head == "affine":
            image = apply_affine(x, image)
        return (image, features) if return_features else image

    def forward_features(self, x: Tensor, names: Iterable[str] = FEATURES) -> dict[str, Tensor]:
        """Computes intermediate features, without the decoder.

        The whole encoder runs; :meth:`feature_extractor` cuts that as well.

        Args:
            x: RGB images as for :meth:`forward`.
            names: Any of ``stage1``, ``stage2``, ``stage3`` (the encoder's, at strides 4, 8, 16)
                and ``mid`` (the first FAM's, at stride 16; the feature of knowledge transfer).

        Returns:
            The named features, (n, c, H / s, W / s) with H, W the padded size.

        Raises:
            ValueError: If a name is unknown or ``x`` is not (n, 3, h, w).
        """
        return _compute_features(self, x, check_feature_names(names))

    def feature_extractor(self, names: Iterable[str]) -> KTDNFeatures:
        """Returns a network that holds and computes only what the named features need.

        It shares this network's weights (an encoder that is cut short has copies).
        """
        return KTDNFeatures(self, names)


class KTDNFeatures(nn.Module):
    """The part of a :class:`KTDN` that some of its features need.

    Args:
        network: The network to take it from; its weights are shared.
        names: The features' names, see :meth:`KTDN.forward_features`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: KTDN, names: Iterable[str]) -> None:
        super().__init__()
        self.names = check_feature_names(names)
        self.register_buffer("mean", network.mean, persistent=False)
        self.register_buffer("std", network.std, persistent=False)
        depth = max(min(FEATURES.index(name) + 1, len(STAGES)) for name in self.names)
        self.encoder = network.encoder.cut(depth)
        if "mid" in self.names:
            self.project16 = network.project16
            self.fam16 = network.fam16

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the named features of RGB images (n, 3, h, w) in [0, 1] of any size."""
        return _compute_features(self, x, self.names)


def _compute_features(
    network: KTDN | KTDNFeatures, x: Tensor, names: Sequence[str]
) -> dict[str, Tensor]:
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ValueError(f"KTDN takes RGB images (n, 3, h, w), got a tensor {tuple(x.shape)}")
    stages = network.encoder((pad_to_multiple(x) - network.mean) / network.std)
    features = dict(zip(STAGES, stages, strict=False))
    if "mid" in names:
        features["mid"] = network.fam16(network.project16(features["stage3"]))
    return {name: features[name] for name in names}


def apply_affine(x: Tensor, tail: Tensor) -> Tensor:
    """Applies the gain and the offset of the head ``affine``.

    Args:
        x: RGB images (n, 3, h, w).
        tail: Three channels of gain g, then three of offset b: (n, 6, h, w), of any precision.

    Returns:
        ``x * (1 + g) + b``, (n, 3, h, w), in the wider of both formats.
    """
    gain, offset = tail.chunk(2, dim=1)
    # Not 1 + gain first: bfloat16 keeps three digits of that, and x would lose its own.
    return x + (x * gain + offset)


def check_head(head: Any) -> None:
    """Checks that a network can end in this.

    Raises:
        ValueError: If there is no such head.
    """
    if not isinstance(head, str) or head not in HEADS:
        hint = did_you_mean(head, HEADS) if isinstance(head, str) else ""
        raise ValueError(f"KTDN has no head {head!r}{hint} (it has {', '.join(HEADS)})")


def default_widths(channels: Sequence[int]) -> tuple[int, int, int]:
    """Returns the narrowest skip connections with which all pixel shuffles come out whole.

    Args:
        channels: The encoder's channels, shallow to deep (strides 4, 8 and 16).

    Returns:
        Channels of the skip connections, deep to shallow, none below the encoder's.
    """
    c4, c8, c16 = channels
    wide16 = _next_multiple(c16, 4)
    up8 = wide16 // 4
    wide8 = _next_multiple(up8 + c8, 4) - up8
    up4 = (up8 + wide8) // 4
    return wide16, wide8, _next_multiple(up4 + c4, 16) - up4


def check_widths(widths: Any) -> None:
    """Checks that pixel shuffles of these widths come out whole.

    Args:
        widths: Channels of the skip connections, deep to shallow.

    Raises:
        ValueError: If one does not; the message names it and the nearest numbers that do.
    """
    if (
        not isinstance(widths, Sequence)
        or len(widths) != 3
        or any(type(width) is not int or width < 1 for width in widths)
    ):
        raise ValueError(
            "widths must be three positive whole numbers, the channels of the skip connections at "
            f"strides 16, 8 and 4, such as [192, 80, 160]; got {widths!r}"
        )
    above = 0  # channels that come from the pixel shuffle before, which the next one shares
    for width, stride, parts in zip(widths, (16, 8, 4), (4, 4, 16), strict=True):
        total = above + width
        if total % parts:
            below = total // parts * parts - above
            nearest = [one for one in (below, below + parts) if one > 0]
            beside = f" beside the {above} from the layer below" if above else ""
            raise ValueError(
                f"widths {list(widths)}: {width} channels at stride {stride}{beside} do not fit "
                f"a pixel shuffle by {2 if parts == 4 else 4}, which needs a multiple of {parts}; "
                f"the nearest that fit: {' and '.join(map(str, nearest))}"
            )
        above = total // parts


def check_feature_names(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the names as a tuple.

    Raises:
        ValueError: If one of them is not a feature of KTDN, or there are none.
    """
    names = tuple(names)
    for name in names:
        if name not in FEATURES:
            raise ValueError(
                f"KTDN has no feature '{name}'{did_you_mean(name, FEATURES)} "
                f"(it has {', '.join(FEATURES)})"
            )
    if not names:
        raise ValueError(f"no features requested; KTDN has {', '.join(FEATURES)}")
    return names


def pad_to_multiple(x: Tensor) -> Tensor:
    """Pads images at the right and the bottom to a multiple of 16, at least 32 pixels.

    Args:
        x: Images (n, c, h, w), h and w at least 1.

    Returns:
        Images (n, c, H, W); ``x`` itself where nothing is missing. Reflected, or repeated from
        the edge along an axis that is too short to be reflected.
    """
    for axis in (0, 1):
        size = x.shape[-1 - axis]
        missing = max(_next_multiple(size, MULTIPLE), MINIMUM) - size
        if missing:
            mode = "reflect" if missing < size else "replicate"
            x = F.pad(x, (0, missing, 0, 0) if axis == 0 else (0, 0, 0, missing), mode=mode)
    return x


def _next_multiple(value: int, of: int) -> int:
    return -(-value // of) * of


def _projection(channels: int, wanted: int) -> nn.Module:
    return nn.Identity() if channels == wanted else nn.Conv2d(channels, wanted, 1)
