"""KTDN: the network that teacher and student share.

Source: Wu et al., "Knowledge Transfer Dehazing Network for NonHomogeneous Dehazing", CVPRW 2020,
section on the network, with the layer sizes of the network that its authors published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin.archs.encoder import STAGES, Encoder
from ktdn_plugin.blocks import EM, FAM
from ktdn_plugin.errors import did_you_mean

FEATURES = (*STAGES, "mid")
"""Names of the features, shallow to deep."""

MULTIPLE = 16
MINIMUM = 32


class KTDN(nn.Module):
    """Knowledge Transfer Dehazing Network.

    Encoder; three FAMs at strides 16, 8 and 4 with pixel shuffles between them and skip
    connections from the encoder; two more pixel shuffles; EM; a 7x7 convolution and tanh. The
    decoder's widths follow from the encoder's; where a pixel shuffle would not come out whole, a
    1x1 convolution widens the encoder's feature by the few channels that are missing.

    Args:
        encoder: Name of a timm backbone with features at strides 4, 8 and 16. ``res2net101d`` is
            the published network (49.35 million parameters).
        pretrained: Encoder weights: ``True`` for timm's ImageNet weights, a path for a local
            file, ``False`` for random ones.
        mean: Subtracted from the RGB input inside the network.
        std: The input is divided by it after that.
        reduction: Bottleneck of the FAMs' attentions.

    Raises:
        KTDNError: If the encoder cannot be built or its weights cannot be had.
        ValueError: If mean or std are not three numbers, or a std is not positive.
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
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"mean and std are three numbers each, std positive; got {mean}, {std}"
            )
        # Settings, not weights: they stay out of the checkpoint, as in the published one.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

        self.encoder = Encoder(encoder, pretrained)
        c4, c8, c16 = self.encoder.channels
        wide16 = _next_multiple(c16, 4)
        up8 = wide16 // 4
        wide8 = _next_multiple(up8 + c8, 4) - up8
        up4 = (up8 + wide8) // 4
        wide4 = _next_multiple(up4 + c4, 16) - up4
        up1 = (up4 + wide4) // 16
        self.project4 = _projection(c4, wide4)
        self.project8 = _projection(c8, wide8)
        self.project16 = _projection(c16, wide16)

        self.fam16 = FAM(wide16, reduction)
        self.fam8 = FAM(up8, reduction)
        self.fam4 = FAM(up4, reduction)
        self.shuffle = nn.PixelShuffle(2)
        self.em = EM(up1, up1)
        self.tail = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(up1, 3, 7), nn.Tanh())

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
            Images (n, 3, h, w) in (-1, 1), not clamped; clamp to [0, 1] to save or measure them.
            With ``return_features`` a pair of these and the features.

        Raises:
            ValueError: If ``x`` is not (n, 3, h, w).
        """
        features = _compute_features(self, x, FEATURES)
        height, width = x.shape[-2:]
        up = self.fam8(self.shuffle(features["mid"]))
        up = self.fam4(self.shuffle(torch.cat([up, self.project8(features["stage2"])], dim=1)))
        up = torch.cat([up, self.project4(features["stage1"])], dim=1)
        image = self.tail(self.em(self.shuffle(self.shuffle(up))))[..., :height, :width]
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
        """Gives a network that holds and computes only what the named features need.

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
        """Gives the named features of RGB images (n, 3, h, w) in [0, 1] of any size."""
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
        raise ValueError(f"no feature is named; KTDN has {', '.join(FEATURES)}")
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
