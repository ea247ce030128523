"""Dehazing without learning, to compare with."""

from ktdn_plugin.baselines.dark_channel import dark_channel_prior

__all__ = ["dark_channel_prior"]
