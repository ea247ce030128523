"""The rule that makes the golden files' weights, so that they need not be stored."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"

LAST_NORMS = ("bn3.weight",)
"""How the weights of the batch norms end that end a residual block, in the published network."""


def entry(key: str, shape: Sequence[int], last_norms: tuple[str, ...] = LAST_NORMS) -> Tensor:
    """Gives one entry of a checkpoint: every key has a random stream of its own.

    A residual block's last batch norm is a small one: else a deep network's values grow without
    bound.
    """
    if key.endswith(".num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    stream = np.random.RandomState(zlib.crc32(key.encode()))
    values = stream.standard_normal(shape)
    if key.endswith(".running_var"):
        values = 0.5 + stream.random_sample(shape)
    elif key.endswith(".running_mean"):
        values *= 0.1
    elif len(shape) > 1:
        values *= np.sqrt(1.0 / math.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = (1 + 0.1 * values) * (0.25 if key.endswith(last_norms) else 1.0)
    else:
        values *= 0.05
    return torch.from_numpy(values).float()


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Gives the keys of the published checkpoint, in order, with their shapes."""
    shapes = json.loads((GOLDEN / "official_checkpoint_keys.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in shapes.items()}


def published_weights() -> dict[str, Tensor]:
    """Gives a checkpoint in the published layout: the weights of the recorded network."""
    return {key: entry(key, shape) for key, shape in published_shapes().items()}


def draw_weights(network: nn.Module, last_norms: tuple[str, ...] = LAST_NORMS) -> None:
    """Gives any network weights and batch norm statistics by the rule."""
    network.load_state_dict(
        {key: entry(key, value.shape, last_norms) for key, value in network.state_dict().items()}
    )
