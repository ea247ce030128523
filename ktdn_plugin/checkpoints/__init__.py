"""Checkpoint files: read safely, loaded whole, saved whole, and what networks they are of."""

from ktdn_plugin.checkpoints.checkpoint import Checkpoint
from ktdn_plugin.checkpoints.loading import load_published, load_weights
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.checkpoints.saving import save_checkpoint

__all__ = ["Checkpoint", "load_network", "load_published", "load_weights", "save_checkpoint"]
