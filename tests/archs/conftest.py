"""Weights and images for the golden files, made by a rule so that they need not be stored."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ktdn_plugin import KTDN

GOLDEN = Path(__file__).parents[1] / "golden"


def _entry(key: str, shape: tuple[int, ...]) -> Tensor:
    """One entry of the reference checkpoint: every key has a random stream of its own."""
    if key.endswith(".num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    stream = np.random.RandomState(zlib.crc32(key.encode()))
    values = stream.standard_normal(shape)
    if key.endswith(".running_var"):
        values = 0.5 + stream.random_sample(shape)
    elif key.endswith(".running_mean"):
        values *= 0.1
    elif len(shape) > 1:
        values *= np.sqrt(1.0 / math.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = (1 + 0.1 * values) * (0.25 if key.endswith("bn3.weight") else 1.0)
    else:
        values *= 0.05
    return torch.from_numpy(values).float()


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, tuple[int, ...]]:
    """Keys of the published checkpoint, in order, with their shapes."""
    shapes = json.loads((GOLDEN / "official_checkpoint_keys.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def published_weights(published_shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A checkpoint in the published layout: the weights of the recorded network."""
    return {key: _entry(key, shape) for key, shape in published_shapes.items()}


@pytest.fixture(scope="session")
def full_network() -> KTDN:
    """The full-size network; its weights and mode are what the last test left."""
    return KTDN()
