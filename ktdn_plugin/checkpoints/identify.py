"""What a KTDN's weights say of the network that they are of: its encoder, head and widths.

Weights name layers and have shapes; of timm's backbones mostly one alone has just these. A table
made once, ``known_encoders.json``, says which to look at; each is built (on torch's ``meta``
device, in milliseconds) and compared before it is believed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import timm
import torch
from torch import Tensor
from tqdm import tqdm

from ktdn_plugin.archs.encoder import Encoder
from ktdn_plugin.archs.ktdn_arch import HEADS, check_widths, default_widths
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.published_keys import LANDMARKS

PREFIX = "encoder.body."

USUAL = {
    "resnet": ("resnetaa", "resnetblur"),
    "seresnet": ("seresnetaa",),
}
"""Of families that differ in nothing but how they halve images, the usual one: the others."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class _Known(NamedTuple):
    timm: str  # the version that was looked through
    encoders: dict[str, list[str]]  # digest of names and shapes: the backbones that have them
    names: frozenset[str]  # all that were looked at


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
            "no whole KTDN: it lacks "
            + (f"'{missing[0]}'" if missing else f"the encoder, '{PREFIX}*'")
        )
    raise KTDNError(f"another network than KTDN (its {len(weights)} entries are in {shown})")


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
        "no KTDN of ours: the bottlenecks of its attentions are "
        + ", ".join(f"{squeezed} of {channels}" for channels, squeezed in pairs)
    )


def fits_reduction(weights: Mapping[str, Tensor], reduction: int) -> bool:
    """Returns whether a KTDN of this reduction has just these weights' widths.

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
            raise KTDNError(f"no KTDN: '{key}' has no numbers")
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
        f"no KTDN of ours: its last convolution has {count} channels, not "
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
        raise KTDNError(f"no whole KTDN: it lacks '{key}'")
    return tuple(weights[key].shape)


def find_encoders(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Finds the timm backbone that a KTDN's encoder is.

    Args:
        weights: A KTDN's state dict in our layout.

    Returns:
        Its name in timm, and after it those that would fit as well but compute something else.

    Raises:
        KTDNError: If none has just these layers, or several that compute different things and
            none of them is the usual one.
    """
    own = _encoder_of(weights)
    names = _same_shapes(_shapes(own))
    if not names:
        raise KTDNError(
            f"no encoder of timm {timm.__version__} has just these {len(own)} entries "
            f"(such as {next(iter(own), 'none')}); name the encoder (--encoder NAME, or encoder= "
            "in Python), or install the timm that the network was trained with"
        )
    if len(names) == 1 or _compute_the_same(names, own):
        return names[:1]
    usual = _usual(names)
    if usual is None:
        raise KTDNError(
            f"its weights fit several encoders, which compute different things: "
            f"{', '.join(names)}; say which it is (--encoder NAME, or encoder= in Python)"
        )
    return usual, *(name for name in names if name != usual)


def are_the_same(one: str, other: str, weights: Mapping[str, Tensor]) -> bool:
    """Returns whether two backbones are one and the same with a KTDN's weights.

    Args:
        one: A timm backbone, with or without the tag of its published weights.
        other: The other one.
        weights: A KTDN's state dict in our layout, which fits ``one``.
    """
    names = [name.split(".")[0] for name in (one, other)]
    if names[0] == names[1]:
        return True
    shapes = [shapes_of(name) for name in names]
    return None is not shapes[0] == shapes[1] and _compute_the_same(names, _encoder_of(weights))


def _encoder_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)
    }


def _shapes(weights: Mapping[str, Tensor]) -> Shapes:
    return tuple(sorted((key, tuple(value.shape)) for key, value in weights.items()))


def digest_of(shapes: Shapes) -> str:
    """Returns a short name for a network's entries and their shapes, whatever their order."""
    text = "\n".join(f"{key} {','.join(map(str, shape))}" for key, shape in shapes)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _known() -> _Known:
    file = resources.files("ktdn_plugin.checkpoints") / "known_encoders.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    every = {name for names in content["encoders"].values() for name in names}
    return _Known(content["timm"], content["encoders"], frozenset(every | {*content["others"]}))


@functools.lru_cache(maxsize=32)
def _same_shapes(wanted: Shapes) -> tuple[str, ...]:
    """Names the backbones of the timm that is installed that have just these entries."""
    known = _known()
    there = set(timm.list_models())
    first = [name for name in known.encoders.get(digest_of(wanted), ()) if name in there]
    found = [name for name in first if shapes_of(name) == wanted]
    # Those that a later timm has brought.
    found += _search(sorted(there - known.names), wanted)
    if not found and timm.__version__ != known.timm:
        found = _search(sorted(there & known.names - set(first)), wanted)
    return tuple(found)


def _search(names: Iterable[str], wanted: Shapes) -> list[str]:
    names = list(names)
    bar = tqdm(
        names,
        desc="looking for the encoder",
        unit="encoder",
        leave=False,
        disable=None if len(names) > 20 else True,
    )
    return [name for name in bar if shapes_of(name) == wanted]


def shapes_of(name: str) -> Shapes | None:
    """Returns the entries of an encoder and their shapes, without building its weights.

    Args:
        name: Name of a timm model.

    Returns:
        Sorted names and shapes; None where KTDN cannot have it as its encoder.
    """
    try:
        with torch.device("meta"):
            return _shapes(Encoder(name).body.state_dict())
    # Whatever timm's models raise when they are built in this way, it is no encoder of ours.
    except Exception:
        return None


def _compute_the_same(names: Iterable[str], weights: Mapping[str, Tensor]) -> bool:
    """Returns whether backbones give the same features with these weights, of one image.

    Raises:
        KTDNError: If they give features that are not finite, which tells nothing.
    """
    bad = next((key for key, value in weights.items() if not bool(value.isfinite().all())), None)
    if bad is not None:
        raise KTDNError(
            f"its weights are not finite (such as {PREFIX}{bad}), and do not tell which encoder "
            f"they are of ({_or(names)}); take a checkpoint from before the training diverged, or "
            "name the encoder (--encoder NAME, or encoder= in Python)"
        )
    results = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in names:
            encoder = Encoder(name).eval()
            encoder.body.load_state_dict(dict(weights))
            torch.manual_seed(0)
            results.append(encoder(torch.randn(1, 3, 80, 112)))
    if not all(bool(one.isfinite().all()) for result in results for one in result):
        raise KTDNError(
            "its weights give features that are not finite, and do not tell which encoder they "
            f"are of ({_or(names)}); take another checkpoint, or name the encoder (--encoder "
            "NAME, or encoder= in Python)"
        )
    first, *rest = results
    return all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))
        for result in rest
        for one, other in zip(first, result, strict=True)
    )


def _or(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} or {last}"


def _usual(names: Iterable[str]) -> str | None:
    """Names the usual one of backbones that differ only in how they halve images."""
    names = set(names)
    for family, variants in USUAL.items():
        for name in names:
            size = name.removeprefix(family)
            if name.startswith(family) and size[:1].isdigit():
                return name if names <= {name, *(f"{one}{size}" for one in variants)} else None
    return None
