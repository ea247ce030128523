"""The key layout of the network that KTDN's authors published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

StateDict = dict[str, Tensor]

_LAYERS = {
    "encoder.body": "encoder",
    "fam16": "mid_conv",
    "fam8": "attention1",
    "fam4": "attention2",
    "em.refine1": "enhancer.refine1",
    "em.refine2": "enhancer.refine2",
    "em.pool_convs.0": "enhancer.conv1010",
    "em.pool_convs.1": "enhancer.conv1020",
    "em.pool_convs.2": "enhancer.conv1030",
    "em.pool_convs.3": "enhancer.conv1040",
    "em.fuse": "enhancer.refine3",
    "tail": "tail",
}
_ATTENTIONS = {
    "channel_attention.attention": "calayer.ca",
    "pixel_attention.attention": "palayer.pa",
}

LANDMARKS = ("fam16.conv1.weight", "fam8.conv1.weight", "fam4.conv1.weight", "em.fuse.weight")
"""Entries that every KTDN has, and no other network."""

PUBLISHED_LANDMARKS = ("mid_conv.calayer.ca.0.weight", "enhancer.refine1.weight")
"""Entries that it has in the published layout."""

DEAD = ("enhancer.batch1.weight", "enhancer.batch1.bias")
"""A layer of the published network that its forward pass never calls."""

_DEAD_PREFIX = "enhancer.batch1."
_DEAD_WIDTH = 100


def is_published(weights: Mapping[str, Tensor]) -> bool:
    """Returns whether weights are in the layout that KTDN's authors published."""
    bare = {key.removeprefix("module.") for key in weights}
    return bare.issuperset(PUBLISHED_LANDMARKS)


def from_published(weights: Mapping[str, Any]) -> StateDict:
    """Translates the published key layout to ours.

    Args:
        weights: The published file's content, ``{'model': {'module.encoder...': ...}}``, or the
            inner dictionary, with or without ``module.``.

    Returns:
        A state dict for :class:`~ktdn_plugin.archs.KTDN`. The entries ``enhancer.batch1.*``,
        which the published network never uses, are dropped.
    """
    inner = weights.get("model", weights)
    bare = {key.removeprefix("module."): value for key, value in inner.items()}
    layers = {theirs: ours for ours, theirs in _LAYERS.items()}
    attentions = {theirs: ours for ours, theirs in _ATTENTIONS.items()}
    return {
        _rename(key, layers, attentions): value
        for key, value in bare.items()
        if not key.startswith(_DEAD_PREFIX)
    }


def to_published(weights: Mapping[str, Tensor]) -> dict[str, StateDict]:
    """Translates our key layout to the published file's content.

    Args:
        weights: State dict of a :class:`~ktdn_plugin.archs.KTDN`.

    Returns:
        ``{'model': {'module.encoder...': ...}}`` in the published order, with neutral values for
        ``enhancer.batch1.*`` so that the published network loads it strictly.

    Example:
        >>> published = to_published(KTDN("res2net101d").state_dict())
        >>> len(published["model"])
        990
    """
    renamed = {_rename(key, _LAYERS, _ATTENTIONS): value for key, value in weights.items()}
    tail = {key: renamed.pop(key) for key in list(renamed) if key.startswith("tail.")}
    entries = {**renamed, **dead_entries(), **tail}
    return {"model": {f"module.{key}": value for key, value in entries.items()}}


def dead_entries() -> StateDict:
    """Returns neutral values for the entries that the published network never uses."""
    return dict(zip(DEAD, (torch.ones(_DEAD_WIDTH), torch.zeros(_DEAD_WIDTH)), strict=True))


def _rename(key: str, layers: Mapping[str, str], attentions: Mapping[str, str]) -> str:
    for old, new in layers.items():
        if key.startswith(f"{old}."):
            key = new + key[len(old) :]
            break
    for old, new in attentions.items():
        key = key.replace(f".{old}.", f".{new}.")
    return key
