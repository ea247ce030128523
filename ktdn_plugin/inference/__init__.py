"""Dehazing images of any size with a trained network, within a memory limit."""

from ktdn_plugin.inference.base import Dehazer

__all__ = ["Dehazer"]
