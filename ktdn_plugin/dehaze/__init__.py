"""``ktdn dehaze``: hazy photographs and videos in, dehazed ones out."""

from ktdn_plugin.dehaze.checkpoint import dehaze_with
from ktdn_plugin.dehaze.run import dehaze_all

__all__ = ["dehaze_all", "dehaze_with"]
