"""What a KTDN's weights say about the network that they are of: its encoder, head and widths.

Weights name layers and have shapes. Our own files name their encoder; for others the usual
backbones are built (on torch's ``meta`` device, in milliseconds) and compared.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ktdn_plugin.archs.encoder import Encoder
from ktdn_plugin.archs.ktdn_arch import HEADS, check_widths, default_widths
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.published_keys import LANDMARKS

PREFIX = "encoder.body."


class UsualEncoder(NamedTuple):
    """How a usual backbone is recognised.

    Attributes:
        entries: The number of its entries; one that has another number need not be built.
        others: Backbones with just its entries that compute something else.
    """

    entries: int
    others: tuple[str, ...] = ()


USUAL_ENCODERS: dict[str, UsualEncoder] = {
    "res2net101d": UsualEncoder(936),
    "mobilenetv2_100": UsualEncoder(234),
    "resnet18": UsualEncoder(90, ("resnetblur18",)),
    "resnet34": UsualEncoder(174),
    "resnet50": UsualEncoder(258, ("resnetaa50", "resnetblur50")),
    "resnet101": UsualEncoder(564),
    "resnet18d": UsualEncoder(102),
    "resnet34d": UsualEncoder(186, ("resnetaa34d",)),
    "resnet50d": UsualEncoder(270, ("resnetaa50d", "resnetblur50d")),
    "resnet101d": UsualEncoder(576, ("resnetaa101d", "resnetblur101d")),
    "res2net50d": UsualEncoder(426),
    "res2net50_26w_4s": UsualEncoder(414),
    "res2net101_26w_4s": UsualEncoder(924),
    "resnext50_32x4d": UsualEncoder(258),
    "convnext_atto": UsualEncoder(102),
    "convnext_tiny": UsualEncoder(147),
    "convnext_small": UsualEncoder(309),
    "convnext_base": UsualEncoder(309),
    "efficientnet_b0": UsualEncoder(242, ("efficientnet_blur_b0", "tf_efficientnet_b0")),
    "mobilenetv1_100": UsualEncoder(138),
    "mobilenetv3_large_100": UsualEncoder(236, ("tf_mobilenetv3_large_100",)),
    "mobilenetv4_conv_small": UsualEncoder(144),
    "edgenext_small": UsualEncoder(167),
    # timm's smallest, for trying out.
    "test_resnet": UsualEncoder(72),
    "test_convnext": UsualEncoder(75),
    "test_efficientnet": UsualEncoder(58),
}
"""The backbones that are looked for."""


def check_is_ktdn(weights: Mapping[str, Tensor]) -> None:
    """Checks that weights, in our layout, are a KTDN's.

    Raises:
        KTDNError: If they are not; it says what they look like.
    """
    missing = [key for key in LANDMARKS if key not in weights]
    if any(key.startswith(PREFIX) for key in weights) and not missing:
        return
    tops = list(dict.fromkeys(key.split(".")[0] for key in weights))
    shown = ", ".join(tops[:6]) + (", ..." if len(tops) > 6 else "")
    if set(tops) <= {"adapters"} and tops:
        raise KTDNError(
            "the adapters of a training, no network: the network is in net_g_*.pth beside it"
        )
    if len(missing) < len(LANDMARKS):
        raise KTDNError(
            "not a complete KTDN: it lacks "
            + (f"'{missing[0]}'" if missing else f"the encoder, '{PREFIX}*'")
        )
    raise KTDNError(f"a different network than KTDN (its {len(weights)} entries are in {shown})")


def find_reduction(weights: Mapping[str, Tensor]) -> int:
    """Finds the bottleneck of the FAMs' attentions.

    Args:
        weights: A KTDN's state dict in our layout.

    Returns:
        8, the default, where that gives just these widths, else the smallest number that does.

    Raises:
        KTDNError: If no one number gives the widths of all three FAMs.
    """
    pairs = _bottlenecks(weights)
    most = max(channels for channels, _ in pairs)
    for reduction in (8, *range(1, most + 1)):
        if _gives(reduction, pairs):
            return reduction
    raise KTDNError(
        "not our KTDN: the bottlenecks of its attentions are "
        + ", ".join(f"{squeezed} of {channels}" for channels, squeezed in pairs)
    )


def fits_reduction(weights: Mapping[str, Tensor], reduction: int) -> bool:
    """Returns whether a KTDN of this reduction has exactly these weights' widths.

    Args:
        weights: A KTDN's state dict in our layout.
        reduction: The number.
    """
    return _gives(reduction, _bottlenecks(weights))


def _bottlenecks(weights: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    pairs = []
    for name in ("fam16", "fam8", "fam4"):
        key = f"{name}.channel_attention.attention.0.weight"
        squeezed, channels = _shape(weights, key)[:2]
        if not weights[key].numel():
            raise KTDNError(f"not a KTDN: '{key}' has no values")
        pairs.append((channels, squeezed))
    return pairs


def _gives(reduction: int, pairs: Iterable[tuple[int, int]]) -> bool:
    return all(max(channels // reduction, 1) == squeezed for channels, squeezed in pairs)


def find_head(weights: Mapping[str, Tensor]) -> str:
    """Finds what a network ends in.

    Args:
        weights: A KTDN's state dict in our layout.

    Raises:
        KTDNError: If its last convolution is missing, or no head of ours.
    """
    count = _shape(weights, "tail.1.weight")[0]
    for head, channels in HEADS.items():
        if channels == count:
            return head
    raise KTDNError(
        f"not our KTDN: its last convolution has {count} channels, not "
        + " or ".join(f"{channels} ({head})" for head, channels in HEADS.items())
    )


def find_widths(weights: Mapping[str, Tensor]) -> list[int] | None:
    """Finds the channels of the skip connections.

    Args:
        weights: A KTDN's state dict in our layout.

    Returns:
        Deep to shallow; None where they are those that follow from the encoder, and where they
        are no network's, which a comparison of all shapes finds.

    Raises:
        KTDNError: If a layer that tells is missing.
    """
    widths, names = _widths_of(weights), ("project16", "project8", "project4")
    own = [  # a projection that is missing changes nothing
        _shape(weights, f"{name}.weight")[1] if f"{name}.weight" in weights else width
        for name, width in zip(names, widths, strict=True)
    ]
    try:
        check_widths(widths)
    except ValueError:
        return None
    return None if default_widths(own[::-1]) == tuple(widths) else widths


def fits_widths(weights: Mapping[str, Tensor], widths: Sequence[int] | None) -> bool:
    """Returns whether a KTDN's weights have these skip connections, None being the encoder's."""
    return find_widths(weights) is None if widths is None else _widths_of(weights) == [*widths]


def _widths_of(weights: Mapping[str, Tensor]) -> list[int]:
    """Returns what the layers behind the pixel shuffles say of the widths before them."""
    up16, up8, up4, up1 = (
        _shape(weights, f"{name}.weight")[1]
        for name in ("fam16.conv1", "fam8.conv1", "fam4.conv1", "tail.1")
    )
    return [up16, 4 * up4 - up8, 16 * up1 - up4]


def _shape(weights: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in weights or weights[key].ndim != 4:
        raise KTDNError(f"not a complete KTDN: it lacks '{key}'")
    return tuple(weights[key].shape)


def find_encoders(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Finds which of the usual timm backbones a KTDN's encoder is.

    Args:
        weights: A KTDN's state dict in our layout.

    Returns:
        Its name in timm, and after it those that would fit as well but compute something else.

    Raises:
        KTDNError: If none of them has exactly these layers.
    """
    own = {
        key.removeprefix(PREFIX): tuple(value.shape)
        for key, value in weights.items()
        if key.startswith(PREFIX)
    }
    for name, usual in USUAL_ENCODERS.items():
        if usual.entries == len(own) and shapes_of(name) == own:
            return name, *usual.others
    raise KTDNError(
        f"none of the usual encoders has exactly these {len(own)} entries (such as "
        f"{next(iter(own), 'none')}); give the encoder (--encoder NAME, or encoder= in Python)"
    )


@functools.cache
def shapes_of(name: str) -> dict[str, tuple[int, ...]] | None:
    """Returns the shapes of an encoder's entries, without building its weights.

    Args:
        name: Name of a timm model; None is returned where the timm that is installed lacks it.
    """
    try:
        with torch.device("meta"):
            state = Encoder(name).body.state_dict()
    except KTDNError:
        return None
    return {key: tuple(value.shape) for key, value in state.items()}
