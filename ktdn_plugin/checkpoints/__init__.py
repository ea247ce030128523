"""Checkpoint files: reading and loading them safely, saving them whole.

What builds networks from them is in :mod:`ktdn_plugin.checkpoints.networks`, which needs
:mod:`ktdn_plugin.archs`; nothing that is imported here does.
"""

from ktdn_plugin.checkpoints.loading import load_published, load_weights
from ktdn_plugin.checkpoints.reading import read_checkpoint, read_state_dict
from ktdn_plugin.checkpoints.saving import save_checkpoint
from ktdn_plugin.storage.published_keys import from_published, is_published
from ktdn_plugin.storage.safe_loading import is_safetensors, read_header
from ktdn_plugin.storage.state_dicts import (
    WEIGHT_KEYS,
    StateDict,
    compare_keys,
    select_weights,
)

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
