"""Preparing a trained network for inference: checking, folding, splitting."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import FeatureDictNet
from timm.models.efficientnet import EfficientNetFeatures
from torch import nn

from ktdn_plugin.archs import KTDN, Encoder
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.folding import fold_batch_norms


def fold(network: KTDN) -> None:
    """Folds batch norms into convolutions, in place.

    All of them are in the encoder, so only that has to be in float64 for folding.
    """
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image = (image - network.mean.cpu()) / network.std.cpu()
    fold_batch_norms(network.encoder, image)


def check_finite(network: nn.Module) -> None:
    """Checks that all weights are finite.

    Raises:
        KTDNError: If one is not, naming the first.
    """
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise KTDNError(
                f"'{name}' contains NaN or infinity: the file is damaged, or the training "
                "diverged; use an earlier checkpoint"
            )


def split(encoder: Encoder) -> list[nn.Sequential] | None:
    """Splits a timm backbone after its first and second feature if it is a sequence of modules."""
    body = encoder.body
    if encoder.is_channels_last:
        return None
    steps = _steps(body)
    parts: list[list[nn.Module]] = [[]]
    for module, is_feature in steps:
        parts[-1].append(module)
        if is_feature:
            parts.append([])
    if len(parts) != 4 or parts[3]:
        return None
    return [nn.Sequential(*modules) for modules in parts[:3]]


def _steps(body: Any) -> list[tuple[nn.Module, bool]]:
    """Lists what a backbone runs, one after the other, and whether its result is a feature."""
    if isinstance(body, FeatureDictNet) and not body.concat:
        return [(module, name in body.return_layers) for name, module in body.items()]
    # The mobilenets of the networks that come with the package.
    if isinstance(body, EfficientNetFeatures) and body.feature_hooks is None:
        ends = {info["stage"] for info in body.feature_info.get_dicts()}
        stages = [(module, number in ends) for number, module in enumerate(body.blocks, start=1)]
        last = max(number for number, (_, is_feature) in enumerate(stages) if is_feature)
        return [(body.conv_stem, False), (body.bn1, 0 in ends), *stages[: last + 1]]
    return []
