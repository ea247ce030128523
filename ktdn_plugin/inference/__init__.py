"""Dehazing images of any size with a trained network, within the memory that is given."""

from ktdn_plugin.inference.dehazer import Dehazer

__all__ = ["Dehazer"]
