"""Losses of KTDN as plain torch modules: images, at all scales too, and features."""

from ktdn_plugin.losses.knowledge_transfer_loss import KnowledgeTransferLoss
from ktdn_plugin.losses.lab_loss import LabLoss
from ktdn_plugin.losses.laplacian_loss import LaplacianLoss, laplacian_pyramid
from ktdn_plugin.losses.pixel_loss import PixelLoss
from ktdn_plugin.losses.ssim_loss import SSIMLoss

LOSSES = (PixelLoss, LaplacianLoss, SSIMLoss, LabLoss, KnowledgeTransferLoss)
"""What both toolboxes register."""

__all__ = [
    "LOSSES",
    "KnowledgeTransferLoss",
    "LabLoss",
    "LaplacianLoss",
    "PixelLoss",
    "SSIMLoss",
    "laplacian_pyramid",
]
