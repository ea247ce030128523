"""KTDN's building blocks, each usable by itself in any network."""

from ktdn_plugin.blocks.em import EM
from ktdn_plugin.blocks.fam import FAM, ChannelAttention, PixelAttention

__all__ = ["EM", "FAM", "ChannelAttention", "PixelAttention"]
