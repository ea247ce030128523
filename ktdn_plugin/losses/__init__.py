"""Losses of KTDN as plain torch modules: images, at all scales too, and features."""

from ktdn_plugin.losses.knowledge_transfer_loss import KnowledgeTransferLoss
from ktdn_plugin.losses.laplacian_loss import LaplacianLoss, laplacian_pyramid
from ktdn_plugin.losses.pixel_loss import PixelLoss

__all__ = ["KnowledgeTransferLoss", "LaplacianLoss", "PixelLoss", "laplacian_pyramid"]
