"""Checkpoint files: reading and loading them safely, saving them whole.

What builds networks from them is in :mod:`ktdn_plugin.checkpoints.networks`, which needs
:mod:`ktdn_plugin.archs`; nothing that is imported here does.
"""

from ktdn_plugin.checkpoints.loading import load_published, load_weights
from ktdn_plugin.checkpoints.published_layout import from_published, is_published
from ktdn_plugin.checkpoints.reading import (
    WEIGHT_KEYS,
    StateDict,
    compare_keys,
    read_checkpoint,
    read_state_dict,
    select_weights,
)
from ktdn_plugin.checkpoints.saving import save_checkpoint
from ktdn_plugin.storage.safe_loading import is_safetensors, read_header

__all__ = [
    "WEIGHT_KEYS",
    "StateDict",
    "compare_keys",
    "from_published",
    "is_published",
    "is_safetensors",
    "load_published",
    "load_weights",
    "read_checkpoint",
    "read_header",
    "read_state_dict",
    "save_checkpoint",
    "select_weights",
]
