"""The layouts of checkpoint files, and how each is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ktdn_plugin.checkpoints.checkpoint import PARAM_KEYS
from ktdn_plugin.checkpoints.metadata import (
    KEY,
    UNUSED,
    Metadata,
    iteration_of,
    stage_of,
    to_json,
)
from ktdn_plugin.checkpoints.saving import save_checkpoint
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.storage.published_keys import DEAD, to_published
from ktdn_plugin.storage.state_dicts import StateDict

LAYOUTS = ("ktdn", "published", "safetensors", "mmengine")
"""Ours, which is BasicSR's; that of KTDN's authors; one set of weights; mmengine's Runner's."""

Sets = dict[str, StateDict]
"""One or both of :data:`PARAM_KEYS` to weights in our layout."""

_PREFIXES = {"teacher": "generator.", "student": "student."}


def write_layout(path: Path, layout: str, sets: Sets, metadata: Metadata) -> None:
    """Writes a KTDN in a layout, whole or not at all.

    Args:
        path: The file.
        layout: One of :data:`LAYOUTS`.
        sets: Its weights; layouts of one set take the averaged ones where there are any.
        metadata: What goes with them.

    Raises:
        KTDNError: If it cannot be written.
    """
    one = sets.get("params_ema", sets.get("params", {}))
    if layout == "safetensors":
        from safetensors.torch import save

        header = {"format": "pt", KEY: to_json(metadata)}
        write_whole(path, lambda file: file.write(save(one, header)))
    elif layout == "published":
        save_checkpoint(_published(one, metadata), path)
    elif layout == "mmengine":
        save_checkpoint(_mmengine(sets, metadata), path)
    else:
        save_checkpoint({**sets, KEY: metadata}, path)


def _published(weights: StateDict, metadata: Metadata) -> dict[str, Any]:
    content: dict[str, Any] = dict(to_published(weights))
    unused = metadata.get(UNUSED)
    dtype = next(iter(weights.values())).dtype
    for key, value in content["model"].items():
        name = key.removeprefix("module.")
        if name in DEAD:
            given = unused.get(name) if isinstance(unused, Mapping) else None
            content["model"][key] = _numbers(given, value).to(dtype)
    content[KEY] = {key: value for key, value in metadata.items() if key != UNUSED}
    return content


def _numbers(given: Any, neutral: Tensor) -> Tensor:
    if not isinstance(given, list) or len(given) != neutral.numel():
        return neutral
    if not all(type(number) in (int, float) for number in given):
        return neutral
    return torch.tensor(given).view_as(neutral)


def _mmengine(sets: Sets, metadata: Metadata) -> dict[str, Any]:
    prefix = _PREFIXES[stage_of(metadata)]
    averaged = sets.get("params_ema", sets.get("params", {}))
    content: dict[str, Any] = {
        "meta": {"epoch": 0, "iter": iteration_of(metadata), KEY: metadata},
        "state_dict": {f"{prefix}{key}": value for key, value in averaged.items()},
    }
    if len(sets) == len(PARAM_KEYS):
        # Its EMAHook exchanges the two when it saves.
        trained = {f"module.{prefix}{key}": value for key, value in sets["params"].items()}
        content["ema_state_dict"] = {**trained, "steps": torch.tensor(iteration_of(metadata))}
    return content


def check_suffix(path: Path, layout: str) -> None:
    """Checks that a file is called after what it will be.

    Raises:
        KTDNError: If others would take it for something else.
    """
    if (layout == "safetensors") != (path.suffix == ".safetensors"):
        suffix = ".safetensors" if layout == "safetensors" else ".pth"
        raise KTDNError(
            f"{path}: layout {layout} needs the suffix {suffix}; call it "
            f"{path.with_suffix(suffix).name}"
        )
