"""Registers the core's own network, blocks and losses under their names."""

from __future__ import annotations

from ktdn_plugin.archs import KTDN
from ktdn_plugin.blocks import EM, FAM
from ktdn_plugin.losses import LOSSES
from ktdn_plugin.mmengine.registry import MODELS

for _item in (KTDN, FAM, EM, *LOSSES):
    MODELS.register_module(module=_item)
