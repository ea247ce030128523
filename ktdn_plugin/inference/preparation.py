"""Making a trained network ready for inference: checked, folded, cut into parts."""

from __future__ import annotations

import torch
from timm.models import FeatureDictNet
from torch import nn

from ktdn_plugin.archs import KTDN, Encoder
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.folding import fold_batch_norms


def fold(network: KTDN) -> None:
    """Folds batch norms into convolutions, in place.

    They are all in the encoder; the rest need not be in float64 meanwhile, which folding takes.
    """
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image = (image - network.mean.cpu()) / network.std.cpu()
    fold_batch_norms(network.encoder, image)


def check_finite(network: nn.Module) -> None:
    """Checks that all weights are numbers.

    Raises:
        KTDNError: If one is not; the first such one is named.
    """
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise KTDNError(
                f"'{name}' contains NaN or infinity: the file is damaged, or the training "
                "diverged; use an earlier checkpoint"
            )


def split(encoder: Encoder) -> list[nn.Sequential] | None:
    """Cuts a timm backbone behind its first and second feature, where it is a row of modules."""
    body = encoder.body
    if not isinstance(body, FeatureDictNet) or body.concat or encoder.is_channels_last:
        return None
    parts: list[list[nn.Module]] = [[]]
    for name, module in body.items():
        parts[-1].append(module)
        if name in body.return_layers:
            parts.append([])
    if len(parts) != 4 or parts[3]:
        return None
    return [nn.Sequential(*modules) for modules in parts[:3]]
