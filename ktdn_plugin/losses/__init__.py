"""Losses of KTDN as plain torch modules: images at all scales, and features against a teacher's."""

from ktdn_plugin.losses.knowledge_transfer_loss import KnowledgeTransferLoss
from ktdn_plugin.losses.laplacian_loss import LaplacianLoss, laplacian_pyramid

__all__ = ["KnowledgeTransferLoss", "LaplacianLoss", "laplacian_pyramid"]
