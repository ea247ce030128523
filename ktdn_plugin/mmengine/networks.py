"""The core's network, blocks and losses under their names; they are the same classes."""

from __future__ import annotations

from ktdn_plugin.archs import KTDN
from ktdn_plugin.blocks import EM, FAM
from ktdn_plugin.losses import KnowledgeTransferLoss, LaplacianLoss, PixelLoss
from ktdn_plugin.mmengine.registry import MODELS

for _item in (KTDN, FAM, EM, PixelLoss, LaplacianLoss, KnowledgeTransferLoss):
    MODELS.register_module(module=_item)
