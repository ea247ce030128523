"""Weights that metrics download: loaded as plain numbers, with a way out without a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ktdn_plugin.metrics import RGB8

SAFE_LOADING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextmanager
def plain_weights_only() -> Iterator[None]:
    """Keeps downloaded files from running code, unless the user has chosen otherwise."""
    if SAFE_LOADING in os.environ:
        yield
        return
    os.environ[SAFE_LOADING] = "1"
    try:
        yield
    finally:
        del os.environ[SAFE_LOADING]


def missing_weights(name: str, reason: str, url: str, file: str | Path) -> str:
    """Returns a message on weights that cannot be downloaded.

    Args:
        name: The metric.
        reason: Why not.
        url: Their address.
        file: Where they are looked for.
    """
    return (
        f"--metrics {name}: its weights cannot be downloaded ({reason}); fetch {url} elsewhere "
        f"and put it at {file}, or remove {name}"
    )


def as_batch(image: RGB8, device: str) -> Tensor:
    """Converts an image to a batch of one, (1, 3, h, w) in [0, 1]."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    return pixels.to(device).float() / 255
