"""KTDN, the Knowledge Transfer Dehazing Network, for image-restoration toolboxes.

Importing this package loads neither torch nor a toolbox; names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "EM": "ktdn_plugin.blocks",
    "FAM": "ktdn_plugin.blocks",
    "ChannelAttention": "ktdn_plugin.blocks",
    "PixelAttention": "ktdn_plugin.blocks",
    "KTDN": "ktdn_plugin.archs",
    "Encoder": "ktdn_plugin.archs",
    "Dehazer": "ktdn_plugin.inference",
    "create_model": "ktdn_plugin.variants",
    "list_models": "ktdn_plugin.variants",
    "describe_model": "ktdn_plugin.bench.costs",
    "LaplacianLoss": "ktdn_plugin.losses",
    "KnowledgeTransferLoss": "ktdn_plugin.losses",
    "LabLoss": "ktdn_plugin.losses",
    "PixelLoss": "ktdn_plugin.losses",
    "SSIMLoss": "ktdn_plugin.losses",
    "name_features": "ktdn_plugin.training.features",
    "FrozenTeacher": "ktdn_plugin.training.steps",
    "student_step": "ktdn_plugin.training.steps",
    "teacher_step": "ktdn_plugin.training.steps",
    "load_network": "ktdn_plugin.checkpoints.networks",
    "load_published": "ktdn_plugin.checkpoints",
    "load_weights": "ktdn_plugin.checkpoints",
    "to_published": "ktdn_plugin.storage.published_keys",
    "dark_channel_prior": "ktdn_plugin.haze.dark_channel",
    "Photo": "ktdn_plugin.photos",
    "read_photo": "ktdn_plugin.photos",
    "write_photo": "ktdn_plugin.photos",
    "synthesize_haze": "ktdn_plugin.haze.scattering",
    "synthesize_haze_batch": "ktdn_plugin.haze.batch",
    "KTDNError": "ktdn_plugin.errors",
}

if TYPE_CHECKING:
    from ktdn_plugin.archs import KTDN, Encoder
    from ktdn_plugin.bench.costs import describe_model
    from ktdn_plugin.blocks import EM, FAM, ChannelAttention, PixelAttention
    from ktdn_plugin.checkpoints import load_published, load_weights
    from ktdn_plugin.checkpoints.networks import load_network
    from ktdn_plugin.errors import KTDNError
    from ktdn_plugin.haze.batch import synthesize_haze_batch
    from ktdn_plugin.haze.dark_channel import dark_channel_prior
    from ktdn_plugin.haze.scattering import synthesize_haze
    from ktdn_plugin.inference import Dehazer
    from ktdn_plugin.losses import (
        KnowledgeTransferLoss,
        LabLoss,
        LaplacianLoss,
        PixelLoss,
        SSIMLoss,
    )
    from ktdn_plugin.photos import Photo, read_photo, write_photo
    from ktdn_plugin.storage.published_keys import to_published
    from ktdn_plugin.training.features import name_features
    from ktdn_plugin.training.steps import FrozenTeacher, student_step, teacher_step
    from ktdn_plugin.variants import create_model, list_models

__all__ = [
    "EM",
    "FAM",
    "KTDN",
    "ChannelAttention",
    "Dehazer",
    "Encoder",
    "FrozenTeacher",
    "KTDNError",
    "KnowledgeTransferLoss",
    "LabLoss",
    "LaplacianLoss",
    "Photo",
    "PixelAttention",
    "PixelLoss",
    "SSIMLoss",
    "__version__",
    "create_model",
    "dark_channel_prior",
    "describe_model",
    "list_models",
    "load_network",
    "load_published",
    "load_weights",
    "name_features",
    "read_photo",
    "register",
    "student_step",
    "synthesize_haze",
    "synthesize_haze_batch",
    "teacher_step",
    "to_published",
    "write_photo",
]


def register() -> None:
    """Registers KTDN's archs, blocks, losses, models and datasets in BasicSR's registries.

    For one's own scripts; the commands ``basicsr`` and ``ktdn`` do it themselves. It may be called
    any number of times, before or after BasicSR is imported elsewhere.
    """
    from ktdn_plugin.basicsr import register as register_in_basicsr

    register_in_basicsr()


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'ktdn_plugin' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
