"""Weights and images for the golden files, made by a rule so that they need not be stored."""

from __future__ import annotations

from pathlib import Path

import golden_rule
import pytest
from torch import Tensor

from ktdn_plugin import KTDN


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return golden_rule.GOLDEN


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, tuple[int, ...]]:
    """Keys of the published checkpoint, in order, with their shapes."""
    return golden_rule.published_shapes()


@pytest.fixture(scope="session")
def published_weights() -> dict[str, Tensor]:
    """A checkpoint in the published layout: the weights of the recorded network."""
    return golden_rule.published_weights()


@pytest.fixture(scope="session")
def full_network() -> KTDN:
    """The full-size network; its weights and mode are what the last test left."""
    return KTDN()
