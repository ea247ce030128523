"""What mmengine's checkpoint files hold, for programs with and without mmengine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

StateDict = dict[str, Tensor]

NETWORK_PREFIXES = ("student.", "generator.")
"""What a network is called inside the models that train it, mmagic's included."""


def is_mmengine(content: Any) -> bool:
    """Returns whether a file's content is as mmengine's Runner saves it."""
    return isinstance(content, Mapping) and {"meta", "state_dict"} <= content.keys()


def from_mmengine(content: Mapping[str, Any], averaged: bool = True) -> StateDict:
    """Takes the network's weights out of an mmengine file.

    Args:
        content: The file's content.
        averaged: The averaged weights, where there are any; the trained ones themselves if not.

    Returns:
        Name to tensor, without the prefix of the model that trained the network.
    """
    weights: Mapping[str, Tensor] = content["state_dict"]
    # Its EMAHook exchanges the two when it saves.
    if not averaged and "ema_state_dict" in content:
        weights = {
            key.removeprefix("module."): value
            for key, value in content["ema_state_dict"].items()
            if key != "steps"
        }
    for prefix in NETWORK_PREFIXES:
        own = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        if own:
            return own
    return dict(weights)
