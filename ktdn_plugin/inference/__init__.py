"""Dehazing images of any size with a trained network, within the given memory."""

from ktdn_plugin.inference.dehazer import Dehazer

__all__ = ["Dehazer"]
