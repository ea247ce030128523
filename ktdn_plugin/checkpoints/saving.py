"""Saving checkpoints whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ktdn_plugin.storage.atomic import write_whole


def save_checkpoint(content: Any, path: str | Path) -> None:
    """Writes a checkpoint whole or not at all.

    A run that is killed, or a disk that is full, leaves what was there before.

    Args:
        content: Tensors and plain values, for :func:`torch.save`.
        path: The ``.pth`` or ``.state`` file.

    Raises:
        KTDNError: If it cannot be written.
    """
    write_whole(path, lambda file: torch.save(content, file))
