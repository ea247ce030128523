"""Finding a network's weights in the content of a checkpoint file, and comparing them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.mmengine_keys import from_mmengine, is_mmengine
from ktdn_plugin.storage.published_keys import LANDMARKS, PUBLISHED_LANDMARKS

_logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]

WEIGHT_KEYS = ("params_ema", "params", "state_dict", "model", "model_state_dict")
"""Where training programs put the weights inside a file, in the order they are looked for."""


def select_weights(content: Any, path: str | Path, param_key: str | None = None) -> StateDict:
    """Finds one network's weights in the content of a checkpoint file.

    Args:
        content: What was read of the file.
        path: The file, for messages.
        param_key: As for :meth:`~ktdn_plugin.checkpoints.Checkpoint.select`.

    Returns:
        As :meth:`~ktdn_plugin.checkpoints.Checkpoint.select`.

    Raises:
        KTDNError: As :meth:`~ktdn_plugin.checkpoints.Checkpoint.select`.
    """
    if not isinstance(content, Mapping):
        raise KTDNError(f"{path}: contains a {type(content).__name__}, not a network's weights")
    if param_key is not None and param_key not in content and param_key not in WEIGHT_KEYS:
        raise KTDNError(f"{path}: has no '{param_key}', only {', '.join(map(str, content))[:200]}")
    weights: Any
    if is_mmengine(content):
        for part in ("state_dict", "ema_state_dict"):
            if part in content:
                _check_weights(content[part], content, path)
        weights = from_mmengine(content, averaged=param_key != "params")
    else:
        candidates = (param_key, *WEIGHT_KEYS) if param_key else WEIGHT_KEYS
        key = next((key for key in candidates if content.get(key) is not None), None)
        weights = content if key is None else content[key]
        if param_key is not None and key != param_key:
            taken = "the whole file" if key is None else f"'{key}'"
            _logger.info("%s: has no '%s'; using %s", path, param_key, taken)
    _check_weights(weights, content, path)
    plain = {
        key.replace("_orig_mod.", "").removeprefix("module."): value
        for key, value in weights.items()
    }
    return without_prefix(plain, (*LANDMARKS, *PUBLISHED_LANDMARKS))


def _check_weights(weights: Any, content: Mapping[Any, Any], path: str | Path) -> None:
    if not isinstance(weights, Mapping) or not weights:
        raise KTDNError(f"{path}: contains no network weights")
    if not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise KTDNError(
            f"{path}: contains no network weights (it has {', '.join(map(str, content))[:200]})"
        )


def without_prefix(weights: Mapping[str, Tensor], names: Iterable[str]) -> StateDict:
    """Leaves out what some program has put before the names of all weights, such as ``net.``.

    Args:
        weights: What a file has.
        names: Some that the network has; they tell what is a prefix, and what a name's beginning.

    Returns:
        The weights as they are where any of ``names`` is among them, or no prefix leads to one.
    """
    names = set(names)
    if names.isdisjoint(weights):
        # What the first and the last of sorted names share, all share.
        first, last = min(weights, default="").split("."), max(weights, default="").split(".")
        prefix = ""
        for part, other in zip(first[:-1][:8], last[:-1][:8], strict=False):
            if part != other:
                break
            prefix += f"{part}."
            found = {key.removeprefix(prefix): value for key, value in weights.items()}
            if not names.isdisjoint(found):
                return found
    return dict(weights)


def compare_keys(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Returns one line that says how two sets of weights differ.

    Args:
        wanted: The network's.
        found: The file's.

    Returns:
        An empty string where names and shapes are the same.
    """
    missing = [key for key in wanted if key not in found]
    unknown = [key for key in found if key not in wanted]
    # Integers, which quantised weights are, would be taken for numbers of another scale.
    others = [
        key
        for key in wanted
        if key in found and wanted[key].is_floating_point() != found[key].is_floating_point()
    ]
    reshaped = [key for key in wanted if key in found and wanted[key].shape != found[key].shape]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(wanted)} entries are missing (such as {missing[0]})")
    if unknown:
        parts.append(f"{len(unknown)} entries are unknown (such as {unknown[0]})")
    if reshaped:
        key = reshaped[0]
        parts.append(
            f"{len(reshaped)} entries have a different shape (such as {key}: "
            f"{tuple(found[key].shape)} instead of {tuple(wanted[key].shape)})"
        )
    if others:
        key = others[0]
        parts.append(
            f"{len(others)} entries have a different dtype (such as {key}: "
            f"{found[key].dtype} instead of {wanted[key].dtype})"
        )
    return ", ".join(parts)
