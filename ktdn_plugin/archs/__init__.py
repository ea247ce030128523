"""The network: KTDN and its encoder."""

from ktdn_plugin.archs.encoder import Encoder
from ktdn_plugin.archs.ktdn_arch import KTDN

__all__ = ["KTDN", "Encoder"]
